package mtasts

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// proxy is an HTTP proxy that connects everybody to one host.
type proxy struct {
	// reply is sent before the connection is passed on.
	reply string
	pass  func(net.Conn)

	mu       sync.Mutex // guards requests, dialled
	requests []*http.Request
	dialled  []string
}

func (p *proxy) dial(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	connect := pipes(t, p.serve)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		p.mu.Lock()
		p.dialled = append(p.dialled, address)
		p.mu.Unlock()
		return connect(ctx, network, address)
	}
}

func (p *proxy) serve(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.requests = append(p.requests, req)
	p.mu.Unlock()
	if _, err := io.WriteString(conn, p.reply); err == nil {
		p.pass(conn)
	}
}

func TestProxy(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	host := overTLS(ca.leaf(t, nil, "mta-sts.example.com"), func(c net.Conn) {
		readRequest(c)
		say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"+goodPolicy)
		c.Close()
	})
	tests := []struct {
		name   string
		url    string
		proxy  *proxy
		result string
		reason string
	}{
		{"passes on", "http://proxy.example:3128", &proxy{reply: "HTTP/1.1 200 Connection established\r\n\r\n", pass: host}, "ok", ""},
		{"with a password", "http://user:secret@proxy.example:3128", &proxy{reply: "HTTP/1.0 200 OK\r\nVia: x\r\n\r\n", pass: host}, "ok", ""},
		{"refuses", "http://user:secret@proxy.example:3128", &proxy{reply: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nerror", pass: hang}, "connect", "asking the proxy proxy.example:3128: HTTP status 502, want 200"},
		{"redirects", "http://proxy.example:3128", &proxy{reply: "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", pass: hang}, "connect", "HTTP status 302"},
		{"hangs up", "http://proxy.example:3128", &proxy{pass: func(net.Conn) {}}, "connect", "the connection ended before the answer did"},
		{"says too much", "http://proxy.example:3128", &proxy{reply: "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n", pass: hang}, "connect", "it sent more than an answer"},
		{"is no proxy", "http://proxy.example:3128", &proxy{reply: "220 mail\r\n", pass: hang}, "connect", "not an answer in HTTP"},
		{"hangs", "http://proxy.example:3128", &proxy{pass: hang}, "timeout", "time-out while connecting through the proxy proxy.example:3128"},
		{"hangs later", "http://proxy.example:3128", &proxy{reply: "HTTP/1.1 200 OK\r\n\r\n", pass: hang}, "timeout", "time-out while in the TLS handshake"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, err := url.Parse(tt.url)
				if err != nil {
					t.Fatal(err)
				}
				r, zones := newInMemory(t, ca, func(o *Options) { o.Dial, o.Proxy = tt.proxy.dial(t), u })
				start := time.Now()
				got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
				if tt.result == "ok" != (got.Policy != nil) || tt.result != "ok" && got.Failure.Kind != tt.result {
					t.Errorf("got %+v, want %s", got.Failure, tt.result)
				}
				if tt.result != "ok" {
					checkReason(t, got.Failure.Reason, tt.reason)
				}
				if time.Since(start) > time.Minute {
					t.Errorf("it took %v", time.Since(start))
				}
				tt.proxy.check(t, u)
				if n := len(zones.Queries()); n != 0 {
					t.Errorf("the DNS was asked %d questions, want none", n)
				}
			})
		})
	}
}

// check checks what the proxy saw.
func (p *proxy) check(t *testing.T, u *url.URL) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.dialled) != 1 || p.dialled[0] != "proxy.example:3128" || len(p.requests) != 1 {
		t.Fatalf("dialled %q, %d requests", p.dialled, len(p.requests))
	}
	req := p.requests[0]
	if req.Method != http.MethodConnect || req.RequestURI != "mta-sts.example.com:443" || req.Host != "mta-sts.example.com:443" {
		t.Errorf("got %s %s of %s", req.Method, req.RequestURI, req.Host)
	}
	want := ""
	if u.User != nil {
		want = "Basic dXNlcjpzZWNyZXQ="
	}
	if got := req.Header.Get("Proxy-Authorization"); got != want {
		t.Errorf("got authorization %q, want %q", got, want)
	}
}

// TestProxyIsNotBelieved uses a socket: over a pipe, which has no buffer, the
// two sides of a refused handshake wait for each other.
func TestProxyIsNotBelieved(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	p := &proxy{reply: "HTTP/1.1 200 OK\r\n\r\n", pass: overTLS(ca.leaf(t, nil, "proxy.example"), hang)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		p.serve(conn)
	})
	u := &url.URL{Scheme: "http", Host: listener.Addr().String()}
	r, err := New(Options{DNS: silent{}, CAFile: ca.file(t), Proxy: u})
	if err != nil {
		t.Fatal(err)
	}
	got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
	if got.Policy != nil || got.Failure.Kind != "tls" {
		t.Errorf("got %+v", got.Failure)
	}
	checkReason(t, got.Failure.Reason, "certificate is for proxy.example, want mta-sts.example.com")
	listener.Close()
	wg.Wait()
}

func TestProxyMustBeOne(t *testing.T) {
	for _, s := range []string{"https://proxy.example", "socks5://proxy.example:1080", "proxy.example:3128", "http://:3128", "http:"} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{DNS: silent{}, Proxy: u}); err == nil {
			t.Errorf("%s is taken for a proxy", s)
		}
	}
}
