package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/internal/config"
	"tlspolicyd/socketmap"
)

// pipes is a listener whose connections are pipes, for bubbles.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), ended: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.ended) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// dial returns the client's end of a new connection, once it is accepted.
func (p *pipes) dial(t *testing.T) net.Conn {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	p.conns <- theirs
	return ours
}

// inBubble serves a page on pipes, within a bubble.
func inBubble(t *testing.T, h http.HandlerFunc, use func(t *testing.T, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		var serving sync.WaitGroup
		serving.Go(func() { serveHTTP(ctx, p, h, zap.NewNop()) })
		use(t, p)
		cancel()
		serving.Wait()
	})
}

func page(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") }

// get sends a request and returns the status and whether the connection ends
// after the answer.
func get(t *testing.T, c net.Conn, request string) (code int, ends bool) {
	t.Helper()
	go func() { _, _ = io.WriteString(c, request) }()
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	_, err = r.ReadByte()
	return resp.StatusCode, errors.Is(err, io.EOF)
}

const request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n"

func TestHTTPAnswersOneRequestPerConnection(t *testing.T) {
	inBubble(t, page, func(t *testing.T, p *pipes) {
		if code, ends := get(t, p.dial(t), request+"\r\n"); code != 200 || !ends {
			t.Errorf("got %d, connection ends: %v; want 200 and an end", code, ends)
		}
	})
}

func TestHTTPRefusesLargeHeaders(t *testing.T) {
	for size, want := range map[int]int{1 << 10: 200, 8 << 10: 200, 32 << 10: 431} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			inBubble(t, page, func(t *testing.T, p *pipes) {
				header := "X-Large: " + strings.Repeat("x", size-len("X-Large: \r\n")) + "\r\n"
				if code, _ := get(t, p.dial(t), request+header+"\r\n"); code != want {
					t.Errorf("got %d, want %d", code, want)
				}
			})
		})
	}
}

// Who sends a byte now and then does not keep a connection.
func TestHTTPDoesNotWaitForSlowRequests(t *testing.T) {
	for name, begin := range map[string]string{
		"nothing at all":   "",
		"half a header":    request,
		"no end of a body": request + "Content-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			reading := func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				page(w, r)
			}
			inBubble(t, reading, func(t *testing.T, p *pipes) {
				c, opened := p.dial(t), time.Now()
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					_, err := io.WriteString(c, begin)
					for err == nil {
						time.Sleep(time.Second)
						_, err = io.WriteString(c, "x")
					}
				})
				_, _ = io.Copy(io.Discard, c)
				if took := time.Since(opened); took > httpRead+time.Second {
					t.Errorf("the connection was open for %v, want at most %v", took, httpRead)
				}
			})
		})
	}
}

func TestHTTPDoesNotWaitForSlowReaders(t *testing.T) {
	large := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	}
	inBubble(t, large, func(t *testing.T, p *pipes) {
		c, asked := p.dial(t), time.Now()
		if _, err := io.WriteString(c, request+"\r\n"); err != nil {
			t.Fatal(err)
		}
		var err error
		for err == nil {
			time.Sleep(time.Second)
			_, err = c.Read(make([]byte, 1))
		}
		if took := time.Since(asked); took > httpRead+httpWrite+2*time.Second {
			t.Errorf("the connection was open for %v, want at most %v", took, httpRead+httpWrite)
		}
	})
}

// exhausted is a listener that has no descriptor for the first connection.
type exhausted struct {
	*pipes
	failed bool
}

func (f *exhausted) Accept() (net.Conn, error) {
	if !f.failed {
		f.failed = true
		return nil, syscall.EMFILE
	}
	return f.pipes.Accept()
}

func TestAFailedAcceptTakesNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		l := newFewConns(&exhausted{pipes: p}, 1)
		defer l.Close()
		if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("Accept returned %v, want %v", err, syscall.EMFILE)
		}
		go p.dial(t)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

func TestAnAnswerInProgressHasAGraceAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		hanging := make(chan struct{})
		hang := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging })
		done := make(chan struct{})
		go func() {
			defer close(done)
			serveHTTP(ctx, p, hang, zap.NewNop())
		}()
		c := p.dial(t)
		if _, err := io.WriteString(c, request+"\r\n"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		stopped := time.Now()
		<-done
		if took := time.Since(stopped); took != httpGrace {
			t.Errorf("ended after %v, want %v", took, httpGrace)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is at %v, want %v", err, io.EOF)
		}
		close(hanging)
	})
}

// freeAddress returns an address on which nobody listens.
func freeAddress(t *testing.T) config.Address {
	t.Helper()
	l := listenOn(t, "127.0.0.1:0")
	defer l.Close()
	return config.Address{Network: "tcp", Written: l.Addr().String()}
}

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start runs a daemon that asks dns, and returns where it is asked itself and
// how to stop it.
func start(t *testing.T, c *config.Config, dns net.PacketConn) (address string, stop func() error) {
	t.Helper()
	c.DNS.Servers = []netip.AddrPort{dns.LocalAddr().(*net.UDPAddr).AddrPort()}
	c.DANE.Enabled = false // no tests of the server, which would look like questions
	c.Cache.File = "none"
	c.Admin.Socket = t.TempDir() + "/admin.sock"
	d, err := newDaemon(t.Context(), c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	l := listenOn(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx, []net.Listener{l}) }()
	return l.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

// silentDNS is a server that answers nothing.
func silentDNS(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// status asks for a page; 0 means that nobody serves it.
func status(t *testing.T, address, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func askDaemon(t *testing.T, address, key string) {
	t.Helper()
	client, err := socketmap.Dial(t.Context(), address)
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	if _, err := client.Lookup(t.Context(), "policy", key); err != nil {
		t.Error(err)
	}
}

func TestTheDaemonIsSeenFromBeginningToEnd(t *testing.T) {
	c := config.Default()
	c.Admin.HTTP = freeAddress(t)
	pages := c.Admin.HTTP.String()
	c.DNS.Timeout = 300 * time.Millisecond
	dns := silentDNS(t)
	address, stop := start(t, c, dns)

	askDaemon(t, address, ".com")
	if code, body := status(t, pages, "/readyz"); code != 200 {
		t.Errorf("ready is %d %q, want 200", code, body)
	}
	if _, body := status(t, pages, "/metrics"); !strings.Contains(body,
		`tlspolicyd_socketmap_requests_total{map="policy",result="notfound"} 1`) ||
		!strings.Contains(body, `tlspolicyd_cache_entries{kind="policy",tier="local"} 0`) {
		t.Errorf("the metrics do not show the question: %s", body)
	}

	// A question in progress keeps the daemon from ending.
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		askDaemon(t, address, "slow.example")
	}()
	if _, _, err := dns.ReadFrom(make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	code := 200
	for code == 200 {
		code, _ = status(t, pages, "/readyz")
	}
	if code != 503 {
		t.Errorf("ready is %d while the daemon ends, want 503", code)
	}
	<-asked
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if code, _ := status(t, pages, "/healthz"); code != 0 {
		t.Errorf("health is %d after the end, want nobody to serve it", code)
	}
}

func TestMailIsAnsweredWithoutThePages(t *testing.T) {
	taken := listenOn(t, "127.0.0.1:0")
	defer taken.Close()
	for name, address := range map[string]config.Address{
		"not wanted":    {},
		"address taken": {Network: "tcp", Written: taken.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			c := config.Default()
			c.Admin.HTTP = address
			where, stop := start(t, c, silentDNS(t))
			askDaemon(t, where, ".com")
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
