//go:build e2e

package perf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// The addresses of the link. They are public ones, as policy hosts have them;
// nothing leaves the namespace.
const (
	near = "11.0.0.1"
	far  = "11.0.0.2"
)

// roundTrip is how long a packet to far and its answer take.
const roundTrip = 20 * time.Millisecond

// startLink makes a network device behind which far is half a round trip away.
// There is no other machine: each packet comes back with its addresses
// exchanged, so that who connects to far reaches near, from far, and so do the
// answers. To exchange addresses changes no checksum. What is connected to at
// port 443 is passed on to target.
func startLink(b *testing.B, target string) {
	b.Helper()
	tun := openTUN(b, "link0")
	for _, args := range []string{"addr add " + near + "/24 dev link0", "link set link0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			b.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	l, err := net.Listen("tcp", near+":443")
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { reflect(tun) })
	running.Go(func() { forward(l, target) })
	b.Cleanup(func() {
		if err := errors.Join(tun.Close(), l.Close()); err != nil {
			b.Error(err)
		}
		running.Wait()
	})
}

// openTUN makes a TUN device (linux/if_tun.h).
func openTUN(b *testing.B, name string) *os.File {
	b.Helper()
	const (
		setIff = 0x400454ca // TUNSETIFF
		flags  = 0x1001     // IFF_TUN | IFF_NO_PI
	)
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		b.Fatalf("opening /dev/net/tun: %v", err)
	}
	var request [40]byte
	copy(request[:15], name)
	binary.NativeEndian.PutUint16(request[16:], flags)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), setIff, uintptr(unsafe.Pointer(&request))); errno != 0 {
		b.Fatalf("making a TUN device: %v", errno)
	}
	return os.NewFile(uintptr(fd), "tun")
}

// reflect sends every IPv4 packet back after half a round trip, until tun is
// closed.
func reflect(tun *os.File) {
	const source, destination, end = 12, 16, 20
	buf := make([]byte, 65536)
	for {
		n, err := tun.Read(buf)
		if err != nil {
			return
		}
		if n < end || buf[0]>>4 != 4 {
			continue
		}
		packet := bytes.Clone(buf[:n])
		copy(packet[source:], buf[destination:end])
		copy(packet[destination:], buf[source:destination])
		time.AfterFunc(roundTrip/2, func() {
			_, _ = tun.Write(packet) // a network may lose packets
		})
	}
}

// forward passes connections on.
func forward(l net.Listener, target string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client) // either side may end it
				_ = server.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(client, server)
		}()
	}
}

// address asks a DNS server for the IPv4 address of a name.
func address(b testing.TB, server, name string) string {
	b.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server)
	}}
	addrs, err := r.LookupHost(b.Context(), name+".")
	if err != nil {
		b.Fatal(err)
	}
	return addrs[0]
}
