package mtasts

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

const (
	goodPolicy = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
	// hostZone gives the policy host an address of the public Internet, which
	// the tests never connect to: see network.
	hostZone = "mta-sts.example.com. A 198.41.0.4\n"
)

func mustDomain(t testing.TB, s string) policy.Domain {
	t.Helper()
	d, err := policy.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// network stands for the Internet: it connects every address to one listener
// and remembers what was asked for.
type network struct {
	listener string

	mu      sync.Mutex // guards dialled
	dialled []string
}

func (n *network) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	n.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, n.listener)
}

func (n *network) addresses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialled)
}

// policyHost is a web server on loopback, and a resolver that believes it to
// be mta-sts.example.com.
type policyHost struct {
	*Resolver
	zones   *dnstest.Resolver
	network *network

	mu       sync.Mutex // guards requests
	requests []*http.Request
}

func (h *policyHost) seen() []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.requests)
}

// startHost starts a policy host. What is nil in config is as it should be.
func startHost(t *testing.T, ca *authority, config *tls.Config, handler http.HandlerFunc) *policyHost {
	t.Helper()
	h := &policyHost{zones: &dnstest.Resolver{}}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, r)
		h.mu.Unlock()
		handler(w, r)
	}))
	if config == nil {
		config = &tls.Config{}
	}
	if config.Certificates == nil {
		config.Certificates = []tls.Certificate{ca.leaf(t, nil, "mta-sts.example.com")}
	}
	srv.TLS = config
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	h.zones.SetZone(hostZone)
	h.network = &network{listener: srv.Listener.Addr().String()}
	var err error
	h.Resolver, err = New(Options{DNS: h.zones, CAFile: ca.file(t), Dial: h.network.dial, UserAgent: "tlspolicyd/1.2"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// say sends s to a client that may be gone.
func say(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

// answer is a handler that answers with a policy.
func answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	say(w, goodPolicy)
}

// respond answers with a status, headers and a body.
func respond(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil // no guess
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		say(w, body)
	}
}

func plainText(body string) http.HandlerFunc {
	return respond(200, body, "Content-Type", "text/plain")
}

// sized is a policy of n bytes.
func sized(n int) string {
	const line = "x-padding: 0123456789012345678901234567890123456789012345\n"
	var b strings.Builder
	b.WriteString(goodPolicy)
	for n-b.Len() >= 2*len(line) {
		b.WriteString(line)
	}
	b.WriteString("x: " + strings.Repeat("y", n-b.Len()-4) + "\n")
	return b.String()
}

// endless answers with body again and again, without a length.
func endless(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	block := bytes.Repeat([]byte("x-padding: 1234\n"), 4096)
	for range (1 << 30) / len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// gzipped answers with a compressed body of n KiB that says what it is.
func gzipped(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		block := bytes.Repeat([]byte("\n"), 1024)
		for range n {
			_, _ = z.Write(block) // the client may be gone
		}
		z.Close()
	}
}

func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	conn.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0) //nolint:errcheck // Then it is closed in another way, and the test says so.
	conn.(*tls.Conn).NetConn().Close()
}

// raw sends bytes in place of an answer, then ends TLS and the connection.
func raw(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		say(conn, s)
		conn.Close()
	}
}

// cut sends bytes in place of an answer, then ends the connection but not TLS.
func cut(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		say(conn, s)
		conn.(*tls.Conn).NetConn().Close()
	}
}
