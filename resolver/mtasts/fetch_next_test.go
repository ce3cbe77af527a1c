package mtasts

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// hostOfTwo is a policy host with two addresses, of which the first is always
// the first to connect.
const hostOfTwo = "_mta-sts.example.com. TXT \"v=STSv1; id=1\"\nmta-sts.example.com. A 198.41.0.4\nmta-sts.example.com. A 198.41.0.5\n"

// buffered has what serve writes wait in a buffer, as the network does, where a
// pipe has the writer wait: who refuses a certificate does not read on.
func buffered(serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		b := &bufferedConn{Conn: conn, writes: make(chan []byte, 100)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p := range b.writes {
				_, _ = conn.Write(p) // the reader may be gone
			}
		}()
		serve(b)
		close(b.writes)
		<-done
	}
}

type bufferedConn struct {
	net.Conn
	writes chan []byte
}

func (b *bufferedConn) Write(p []byte) (int, error) {
	b.writes <- slices.Clone(p)
	return len(p), nil
}

// SetWriteDeadline does nothing: what is in the buffer is written.
func (b *bufferedConn) SetWriteDeadline(time.Time) error { return nil }

// Close leaves it to who serves to close the connection after what was written.
func (b *bufferedConn) Close() error { return nil }

// If TLS fails at one address, another may be a good one.
func TestNextAddressAfterTLSFailed(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	right := ca.leaf(t, nil, "mta-sts.example.com")
	wrong := ca.leaf(t, nil, "www.example.com")
	good := func(conn net.Conn) {
		readRequest(conn)
		say(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"+goodPolicy)
		conn.Close()
	}
	missing := func(conn net.Conn) {
		readRequest(conn)
		say(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	}
	overRight := func(serve func(net.Conn)) func(net.Conn) { return overTLS(right, serve) }
	const first, second = "198.41.0.4:443", "198.41.0.5:443"
	tests := []struct {
		name string
		// serve is what the addresses do; nil refuses the connection.
		serve  map[string]func(net.Conn)
		kind   string // empty: the policy is fetched
		reason string
		took   time.Duration
		tried  []string
	}{
		{"wrong certificate, then a good one",
			map[string]func(net.Conn){first: overTLS(wrong, good), second: overRight(good)},
			"", "", 0, []string{first, second}},
		{"no TLS, then a good one",
			map[string]func(net.Conn){first: func(c net.Conn) { say(c, "SSH-2.0-OpenSSH\r\n"); hang(c) }, second: overRight(good)},
			"", "", 0, []string{first, second}},
		{"hung up, then a good one",
			map[string]func(net.Conn){first: func(net.Conn) {}, second: overRight(good)},
			"", "", 0, []string{first, second}},
		{"a handshake that hangs, then a good one",
			map[string]func(net.Conn){first: hang, second: overRight(good)},
			"", "", 30 * time.Second, []string{first, second}},
		{"wrong certificate, then a broken connection",
			map[string]func(net.Conn){first: overTLS(wrong, good), second: func(net.Conn) {}},
			"tls", "certificate is for www.example.com, want mta-sts.example.com", 0, []string{first, second}},
		{"wrong certificate, then no connection",
			map[string]func(net.Conn){first: overTLS(wrong, good)},
			"tls", "certificate is for www.example.com, want mta-sts.example.com", 0, []string{first, second}},
		{"wrong certificate, then a handshake that hangs",
			map[string]func(net.Conn){first: overTLS(wrong, good), second: hang},
			"tls", "certificate is for www.example.com, want mta-sts.example.com", time.Minute, []string{first, second}},
		{"both hang",
			map[string]func(net.Conn){first: hang, second: hang},
			"timeout", "time-out while in the TLS handshake with mta-sts.example.com", time.Minute, []string{first, second}},
		{"no connection, then a wrong certificate",
			map[string]func(net.Conn){second: overTLS(wrong, good)},
			"tls", "certificate is for www.example.com, want mta-sts.example.com", 0, []string{first, second, first}},
		{"a status is an answer",
			map[string]func(net.Conn){first: overRight(missing), second: overRight(good)},
			"status", "HTTP status 404, want 200", 0, []string{first}},
		{"so is a connection that breaks",
			map[string]func(net.Conn){first: overRight(readRequest), second: overRight(good)},
			"connect", "the connection ended", 0, []string{first}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex // guards tried
				var tried []string
				r, zones := newInMemory(t, ca, func(o *Options) {
					o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
						mu.Lock()
						tried = append(tried, address)
						mu.Unlock()
						if tt.serve[address] == nil {
							return nil, syscall.ECONNREFUSED
						}
						return pipes(t, buffered(tt.serve[address]))(ctx, network, address)
					}
				})
				zones.SetZone(hostOfTwo)
				start := time.Now()
				got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
				if took := time.Since(start); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if !slices.Equal(tried, tt.tried) {
					t.Errorf("tried %q, want %q", tried, tt.tried)
				}
				if got.Failure.Kind != tt.kind || got.InForce(start) != (tt.kind == "") {
					t.Errorf("got %+v", got)
				}
				if tt.kind != "" {
					checkReason(t, got.Failure.Reason, tt.reason)
				}
				first := r.fetcher.first
				if len(first.slots.inUse) != 0 || len(first.places) != 0 {
					t.Errorf("%d slots and %d places are left", len(first.slots.inUse), len(first.places))
				}
			})
		})
	}
}

// A host that cannot be reached at one address, and whose certificate is wrong
// at another, may still be a good one at a third to which there was no place.
func TestNoPlaceAtTheNextAddressIsNoFailure(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	wrong := ca.leaf(t, nil, "www.example.com")
	synctest.Test(t, func(t *testing.T) {
		r, zones := newInMemory(t, ca, func(o *Options) {
			o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				serve := hang
				if address == "198.41.0.4:443" {
					serve = overTLS(wrong, hang)
				}
				return pipes(t, buffered(serve))(ctx, network, address)
			}
		})
		zones.SetZone(hostOfTwo + "mta-sts.example.net. A 198.41.0.5\n")
		var wg sync.WaitGroup
		for range maxPerAddress {
			wg.Go(func() { r.Fetch(t.Context(), mustDomain(t, "example.net"), policy.STS{Wanted: "1"}) })
		}
		synctest.Wait()
		prev := policy.STS{Wanted: "1"}
		start := time.Now()
		got := r.Fetch(t.Context(), mustDomain(t, "example.com"), prev)
		if !got.Failure.At.IsZero() || got.Wanted != "1" || time.Since(start) != patience {
			t.Errorf("got %+v after %v", got, time.Since(start))
		}
		wg.Wait()
	})
}
