package mtasts

import (
	"context"
	"net"
	"syscall"
	"testing"
	"testing/synctest"

	"tlspolicyd/resolver/policy"
)

func TestNoTLS(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	tests := []struct {
		name   string
		dial   func(*testing.T) func(context.Context, string, string) (net.Conn, error)
		result string
		reason string
	}{
		{"refused", func(*testing.T) func(context.Context, string, string) (net.Conn, error) { return refused },
			"connect", "connecting to 198.41.0.4:443: connection refused"},
		{"closed after the first message", serving(func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }),
			"tls", "mta-sts.example.com closed the connection in the TLS handshake"},
		{"cleartext", serving(func(c net.Conn) {
			p := make([]byte, 4096)
			if _, err := c.Read(p); err == nil {
				say(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			}
		}), "tls", "mta-sts.example.com does not speak TLS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newInMemory(t, ca, func(o *Options) { o.Dial = tt.dial(t) })
				got := r.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
				if got.Failure.Kind != tt.result {
					t.Errorf("got %+v, want %s", got.Failure, tt.result)
				}
				checkReason(t, got.Failure.Reason, tt.reason)
			})
		})
	}
}

func serving(serve func(net.Conn)) func(*testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(t *testing.T) func(context.Context, string, string) (net.Conn, error) { return pipes(t, serve) }
}
