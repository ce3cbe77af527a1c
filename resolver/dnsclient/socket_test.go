package dnsclient_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
)

const zone = `
	$SECURE test
	a.test.     60 A 192.0.2.1
	big.test.   60 TXT ` // And texts that are too large for a datagram.

func bigZone() string {
	return zone + strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 20)
}

// udpServer answers queries over a real socket.
func udpServer(t *testing.T, respond func(conn net.PacketConn, client net.Addr, q *dns.Msg)) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, client, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				t.Errorf("query: %v", err)
				return
			}
			respond(conn, client, q)
		}
	})
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return conn.LocalAddr().String()
}

func send(t *testing.T, conn net.PacketConn, client net.Addr, m *dns.Msg) {
	t.Helper()
	if _, err := conn.WriteTo(pack("udp", m), client); err != nil {
		t.Error(err)
	}
}

func TestAnswersFromAnotherPortAreIgnored(t *testing.T) {
	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	addr := udpServer(t, func(conn net.PacketConn, client net.Addr, q *dns.Msg) {
		send(t, other, client, answer(q, "a.test. 60 A 203.0.113.66"))
		send(t, conn, client, answer(q, "a.test. 60 A 192.0.2.1"))
	})
	c := newClient(t, nil, dnsclient.Options{Servers: []string{addr}, Dial: new(net.Dialer).DialContext})
	if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
		t.Errorf("got %s", got)
	}
	addr = udpServer(t, func(_ net.PacketConn, client net.Addr, q *dns.Msg) {
		send(t, other, client, answer(q, "a.test. 60 A 203.0.113.66"))
	})
	c = newClient(t, nil, dnsclient.Options{Servers: []string{addr}, Dial: new(net.Dialer).DialContext, Timeout: 50 * time.Millisecond, Attempts: 1})
	if got, want := outcome(c.Query(t.Context(), "a.test", dns.TypeA)), "timeout "+addr; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryQueryHasItsOwnPort(t *testing.T) {
	var mu sync.Mutex
	ports := map[string]bool{}
	addr := udpServer(t, func(conn net.PacketConn, client net.Addr, q *dns.Msg) {
		mu.Lock()
		ports[client.String()] = true
		mu.Unlock()
		send(t, conn, client, answer(q, "a.test. 60 A 192.0.2.1"))
	})
	c := newClient(t, nil, dnsclient.Options{Servers: []string{addr}, Dial: new(net.Dialer).DialContext})
	for range 50 {
		if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
			t.Fatalf("got %s", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ports) < 40 {
		t.Errorf("%d different ports in 50 queries", len(ports))
	}
}

// A port that nobody listens on is known at once, and the next server asked.
func TestDeadPort(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := conn.LocalAddr().String()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	srv := dnstest.Start(t, bigZone())
	c := newClient(t, nil, dnsclient.Options{Servers: []string{dead, srv.Addr()}, Dial: new(net.Dialer).DialContext, Timeout: time.Minute})
	if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
		t.Errorf("got %s", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	srv := dnstest.Start(t, bigZone())
	srv.Fault("a.test", "A", dnstest.ForgedFirst)
	c := newClient(t, nil, dnsclient.Options{Servers: []string{srv.Addr()}, Dial: new(net.Dialer).DialContext, MaxInFlight: 20, Timeout: time.Minute})
	var queries sync.WaitGroup
	for range 100 {
		queries.Go(func() {
			if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
				t.Errorf("got %s", got)
			}
		})
		queries.Go(func() {
			a, err := c.Query(t.Context(), "big.test", dns.TypeTXT)
			if err != nil || len(a.Records) != 1 || a.Security != dnsclient.Secure {
				t.Errorf("over TCP: got %+v, %v", a, err)
				return
			}
			if got := len(dnsclient.Text(a.Records[0].(*dns.TXT))); got != 5000 {
				t.Errorf("over TCP: %d bytes, want 5000", got)
			}
		})
	}
	queries.Wait()
}

// The servers of resolv.conf are asked on port 53, where nobody need be: what
// counts is that they are the ones that are asked.
func TestServersOfResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 127.0.0.1\nnameserver 192.0.2.3\nsearch example.com\noptions trust-ad ndots:5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := new(network)
	n.set(third, right)
	c, err := dnsclient.New(dnsclient.Options{ResolvConf: path, Dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
		t.Errorf("got %s", got)
	}
	want := first + " udp refused, " + third + " udp a.test."
	if got := strings.Join(n.seen(), ", "); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestIPv6ServersOfResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver fe80::1%eth0\nnameserver ::1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n := new(network)
	n.set("[::1]:53", right)
	c, err := dnsclient.New(dnsclient.Options{ResolvConf: path, Dial: n.dial})
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
		t.Errorf("got %s", got)
	}
	want := "[fe80::1%eth0]:53 udp refused, [::1]:53 udp a.test."
	if got := strings.Join(n.seen(), ", "); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}
