package mtasts

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// pipes returns a network that connects every address to serve, over a pipe in
// memory.
func pipes(t *testing.T, serve func(net.Conn)) func(context.Context, string, string) (net.Conn, error) {
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		wg.Go(func() {
			defer theirs.Close()
			serve(theirs)
		})
		return ours, nil
	}
}

// newInMemory returns a resolver that knows no socket, for a bubble of
// testing/synctest.
func newInMemory(t *testing.T, ca *authority, change func(*Options)) (*Resolver, *dnstest.Resolver) {
	t.Helper()
	zones := &dnstest.Resolver{}
	zones.SetZone(hostZone + `_mta-sts.example.com. 300 TXT "v=STSv1; id=1"` + "\n")
	o := Options{DNS: zones, CAFile: ca.file(t)}
	change(&o)
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return r, zones
}

// overTLS serves the other side of TLS. There are no session tickets, which
// the server would send at a time at which nobody reads from the pipe.
func overTLS(cert tls.Certificate, serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
		if secure.Handshake() == nil {
			serve(secure)
		}
	}
}

// readRequest reads up to the end of the headers.
func readRequest(conn net.Conn) {
	var b []byte
	for p := make([]byte, 1024); !strings.HasSuffix(string(b), "\r\n\r\n"); {
		n, err := conn.Read(p)
		if err != nil {
			return
		}
		b = append(b, p[:n]...)
	}
}

// hang waits until the client hangs up.
func hang(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// drip sends s, then one byte of what every second.
func drip(s, what string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(conn)
		say(conn, s)
		for {
			time.Sleep(time.Second)
			if _, err := io.WriteString(conn, what); err != nil {
				return
			}
		}
	}
}

func TestSlowHostsEndAtTheDeadline(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	ca := newAuthority(t, "Test Root")
	cert := ca.leaf(t, nil, "mta-sts.example.com")
	tests := []struct {
		name   string
		serve  func(net.Conn)
		reason string
	}{
		{"TLS handshake", hang, "time-out while in the TLS handshake with mta-sts.example.com"},
		{"request", overTLS(cert, func(net.Conn) { time.Sleep(2 * time.Minute) }), "time-out while waiting for the answer of mta-sts.example.com"},
		{"answer", overTLS(cert, hang), "time-out while waiting for the answer of mta-sts.example.com"},
		{"headers drip", overTLS(cert, drip(head, "X")), "time-out while waiting for the answer"},
		{"interim answers drip", overTLS(cert, drip("", "H")), "time-out while waiting for the answer"},
		{"body", overTLS(cert, func(c net.Conn) {
			readRequest(c)
			say(c, head+"Content-Length: 1000\r\n\r\nversion: STSv1\n")
			hang(c)
		}), "time-out while reading the policy of mta-sts.example.com"},
		{"body drips", overTLS(cert, drip(head+"\r\n", "\n")), "time-out while reading the policy"},
		{"chunks drip", overTLS(cert, drip(head+"Transfer-Encoding: chunked\r\n\r\n", "1\r\n\n\r\n")), "time-out while reading the policy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newInMemory(t, ca, func(o *Options) { o.Dial = pipes(t, tt.serve) })
				start := time.Now()
				got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
				if took := time.Since(start); took != time.Minute {
					t.Errorf("it took %v, want a minute", took)
				}
				if got.Failure.Kind != "timeout" {
					t.Errorf("got %+v", got.Failure)
				}
				checkReason(t, got.Failure.Reason, tt.reason)
			})
		})
	}
}

func TestSlowDialAndDNSEndAtTheDeadline(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	tests := []struct {
		name   string
		change func(*Options)
		reason string
	}{
		{"connect", func(o *Options) { o.Dial = never }, "time-out while connecting to 198.41.0.4:443"},
		{"DNS", func(o *Options) { o.DNS = silent{} }, "time-out while looking up the address of mta-sts.example.com"},
		{"another time", func(o *Options) { o.Dial, o.FetchTimeout = never, time.Second }, "time-out while connecting"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var want time.Duration
				r, _ := newInMemory(t, ca, func(o *Options) {
					tt.change(o)
					want = o.FetchTimeout
				})
				if want == 0 {
					want = time.Minute
				}
				start := time.Now()
				got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
				if took := time.Since(start); took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
				if got.Failure.Kind != "timeout" {
					t.Errorf("got %+v", got.Failure)
				}
				checkReason(t, got.Failure.Reason, tt.reason)
			})
		})
	}
}

func TestHostThatTakesItsTimeIsHeard(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	cert := ca.leaf(t, nil, "mta-sts.example.com")
	synctest.Test(t, func(t *testing.T) {
		serve := overTLS(cert, func(c net.Conn) {
			readRequest(c)
			time.Sleep(20 * time.Second)
			say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"+goodPolicy)
			c.Close()
		})
		r, _ := newInMemory(t, ca, func(o *Options) { o.Dial = pipes(t, serve) })
		before := time.Now()
		got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
		if !got.Enforces(before) || got.Fetched.Sub(before) != 20*time.Second {
			t.Errorf("got %+v", got)
		}
	})
}

func TestShutdownIsNoFailure(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	synctest.Test(t, func(t *testing.T) {
		r, _ := newInMemory(t, ca, func(o *Options) { o.Dial = pipes(t, hang) })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		prev := learned(24 * time.Hour)
		prev.Wanted = "B"
		if got := r.Fetch(ctx, mustDomain(t, "example.com"), prev); got != prev {
			t.Errorf("got %+v, want %+v", got, prev)
		}
	})
}
