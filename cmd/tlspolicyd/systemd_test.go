package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"tlspolicyd/internal/config"
)

// fileOf returns a descriptor as systemd hands it over.
func fileOf(t *testing.T, of interface{ File() (*os.File, error) }, name string) *os.File {
	t.Helper()
	f, err := of.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListenersOf(t *testing.T) {
	tcp := listenTCP(t)
	path := filepath.Join(t.TempDir(), "s")
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	local.SetUnlinkOnClose(false)
	defer local.Close()
	core, logged := observer.New(zap.InfoLevel)
	listeners, err := listenersOf([]*os.File{fileOf(t, tcp, "policy"), fileOf(t, local, "postfix")}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []net.Listener{tcp, local} {
		if got := listeners[i].Addr().String(); got != want.Addr().String() {
			t.Errorf("listener %d is at %s, want %s", i, got, want.Addr())
		}
		connect(t, listeners[i])
		listeners[i].Close()
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of systemd was removed: %v", err)
	}
	var names []string
	for _, entry := range logged.FilterMessage("using a socket from systemd").All() {
		names = append(names, entry.ContextMap()["name"].(string))
	}
	if got := strings.Join(names, " "); got != "policy postfix" {
		t.Errorf("names in the log: %q", got)
	}
}

// connect has l accept a connection.
func connect(t *testing.T, l net.Listener) {
	t.Helper()
	nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted.Close()
}

func TestListenersOfRejects(t *testing.T) {
	tests := []struct {
		name string
		file func(t *testing.T) *os.File
		want error // nil means any
	}{
		{"a file", func(t *testing.T) *os.File {
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, errSocket},
		{"a pipe", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			w.Close()
			return r
		}, errSocket},
		{"a datagram socket", func(t *testing.T) *os.File {
			c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return fileOf(t, c, "dns")
		}, errSocket},
		{"a connection", func(t *testing.T) *os.File {
			c, err := net.Dial("tcp", listenTCP(t).Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return fileOf(t, c.(*net.TCPConn), "accepted")
		}, errSocket},
		{"a packet socket", func(t *testing.T) *os.File {
			l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			return fileOf(t, l, "packets")
		}, errSocket},
		{"a closed descriptor", func(*testing.T) *os.File { return os.NewFile(1<<20, "closed") }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			good := listenTCP(t)
			bad := tt.file(t)
			listeners, err := listenersOf([]*os.File{fileOf(t, good, "policy"), bad}, zap.NewNop())
			if err == nil || listeners != nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v, %v, want the error %v", listeners, err, tt.want)
			}
			if !strings.Contains(err.Error(), strconv.Quote(bad.Name())) {
				t.Errorf("the error does not say which socket: %v", err)
			}
		})
	}
}

// What the administrator has written and nobody listens on is in the log.
func TestUnusedAddresses(t *testing.T) {
	at := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	local := &net.UnixAddr{Name: "/run/p/sock", Net: "unix"}
	tests := []struct {
		name    string
		listen  string
		sockets []net.Addr
		want    string
	}{
		{"the default, elsewhere", `["127.0.0.1:8461"]`, []net.Addr{at("127.0.0.1", 8642)}, ""},
		{"nothing", `[]`, []net.Addr{local}, ""},
		{"the same", `["127.0.0.2:1", "unix:/run/p/sock"]`, []net.Addr{local, at("127.0.0.2", 1)}, ""},
		{"one of two", `["127.0.0.1:8461", "unix:/run/p/sock"]`, []net.Addr{local}, "127.0.0.1:8461"},
		{"another path", `["unix:/run/p/other"]`, []net.Addr{local, at("127.0.0.1", 8461)}, "unix:/run/p/other"},
		{"another port", `["127.0.0.1:8463"]`, []net.Addr{at("127.0.0.1", 8461)}, "127.0.0.1:8463"},
		{"another address", `["[::1]:8461"]`, []net.Addr{at("127.0.0.1", 8461)}, "[::1]:8461"},
		{"all addresses wanted", `[":8461"]`, []net.Addr{at("127.0.0.1", 8461)}, ":8461"},
		{"all addresses there", `["192.0.2.1:8461", ":8461"]`, []net.Addr{at("::", 8461)}, ""},
		{"a name", `["localhost:8461"]`, []net.Addr{at("127.0.0.1", 8461)}, ""},
		{"a name, another port", `["localhost:8463"]`, []net.Addr{at("127.0.0.1", 8461)}, "localhost:8463"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := config.Parse("test", []byte("listen: "+tt.listen+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			var listeners []net.Listener
			for _, a := range tt.sockets {
				listeners = append(listeners, listenerAt{addr: a})
			}
			core, logged := observer.New(zap.InfoLevel)
			warnUnused(c.Listen, listeners, zap.New(core))
			got := ""
			for _, e := range logged.FilterLevelExact(zap.WarnLevel).All() {
				got += fmt.Sprint(e.ContextMap()["listen"])
			}
			if want := strings.TrimSuffix("["+tt.want+"]", "[]"); got != want {
				t.Errorf("warned of %q, want %q", got, want)
			}
		})
	}
}

// listenerAt is a listener of which nothing but the address is asked.
type listenerAt struct {
	net.Listener
	addr net.Addr
}

func (l listenerAt) Addr() net.Addr { return l.addr }

// Sockets that are meant for another process are not ours (sd_listen_fds(3)).
func TestSocketsOfAnother(t *testing.T) {
	for _, pid := range []string{"1", "", "x", strconv.Itoa(os.Getpid()) + "0"} {
		t.Setenv("LISTEN_PID", pid)
		t.Setenv("LISTEN_FDS", "3")
		listeners, err := socketsOfSystemd(zap.NewNop())
		if err != nil || len(listeners) != 0 {
			t.Errorf("LISTEN_PID=%q: %v, %v", pid, listeners, err)
		}
		if left := os.Getenv("LISTEN_FDS"); left != "" {
			t.Errorf("LISTEN_FDS is left to children: %q", left)
		}
	}
}

// serviceManager takes the place of systemd.
type serviceManager struct {
	conn *net.UnixConn
}

func startManager(t *testing.T) *serviceManager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &serviceManager{conn}
}

// next returns what the daemon has said next, but for the time.
func (s *serviceManager) next(t *testing.T) string {
	t.Helper()
	if err := s.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4096)
	n, err := s.conn.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	said, usec, timed := strings.Cut(string(text[:n]), "\nMONOTONIC_USEC=")
	if timed {
		if at, err := strconv.ParseInt(usec, 10, 64); err != nil || at <= 0 {
			t.Errorf("the time is %q", usec)
		}
	}
	return said
}

func TestManagerIsTold(t *testing.T) {
	systemd := startManager(t)
	m := manager{zap.NewNop()}
	m.ready("Answering on here")
	m.reloading()
	m.stopping()
	for _, want := range []string{
		"READY=1\nSTATUS=Answering on here",
		"RELOADING=1",
		"STOPPING=1\nSTATUS=Answering the last questions",
	} {
		if got := systemd.next(t); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	core, logged := observer.New(zap.DebugLevel)
	manager{zap.New(core)}.ready("")
	if logged.Len() != 0 {
		t.Errorf("without a manager it complains: %v", logged.All())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	manager{zap.New(core)}.ready("")
	if logged.FilterLevelExact(zap.WarnLevel).Len() != 1 {
		t.Errorf("that nobody listens is not in the log: %v", logged.All())
	}
}

func TestWatchdog(t *testing.T) {
	systemd := startManager(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	alive, hang := make(chan struct{}), make(chan struct{})
	var watching sync.WaitGroup
	end, cancel := context.WithCancel(t.Context())
	watching.Go(func() {
		manager{zap.NewNop()}.watchdog(end, func() {
			select {
			case alive <- struct{}{}:
			case <-hang:
			}
		})
	})
	for range 3 {
		<-alive
		if got := systemd.next(t); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	// It hangs in alive now: nothing is told.
	if err := systemd.conn.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := systemd.conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the watchdog is fed though the daemon hangs: %d bytes", n)
	}
	cancel()
	close(hang)
	watching.Wait()
}

func TestNoWatchdog(t *testing.T) {
	for _, env := range [][2]string{{"", ""}, {"1000", "1"}, {"x", ""}, {"-5", ""}} {
		t.Setenv("WATCHDOG_USEC", env[0])
		t.Setenv("WATCHDOG_PID", env[1])
		manager{zap.NewNop()}.watchdog(t.Context(), func() { t.Errorf("fed with %q", env) }) // and returns
	}
}
