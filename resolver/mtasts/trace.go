package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"
)

// Trace is what a fetch calls as it goes on, for who wants to see its steps; it
// changes nothing about the fetch. Every function may be nil. They must not
// block, and several may be called at the same time.
type Trace struct {
	// Addresses is called with the addresses that are tried, in this order,
	// and with what is said of those that are not allowed. Not with a proxy.
	Addresses func(allowed []netip.Addr, refused []string)
	// Connected is called when an attempt to connect to target, an address or
	// a proxy, has ended. One that was given up because another came first
	// ends with an error that wraps [context.Canceled].
	Connected func(target string, took time.Duration, err error)
	// Handshake is called when the TLS handshake has ended.
	Handshake func(h Handshake)
	// Answered is called with the status and the media type of the answer, the
	// latter as the host wrote it.
	Answered func(status int, mediaType string, took time.Duration)
	// Text is called with the file, all of it, before it is read as a policy.
	Text func(text string)
}

// Handshake is a TLS handshake that has ended.
type Handshake struct {
	// Version is the name of the protocol; empty if there was no agreement.
	Version string
	// Chain is what the host showed, its own certificate first; empty if it
	// showed none.
	Chain []*x509.Certificate
	Took  time.Duration
	// Err says why the handshake failed; nil if it did not.
	Err error
}

// traceKey is the key of the trace in a context.
type traceKey struct{}

// WithTrace returns a context in which [Resolver.Fetch] calls t.
func WithTrace(ctx context.Context, t *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// noTrace is for contexts without a trace.
var noTrace = new(Trace)

func traceOf(ctx context.Context) *Trace {
	if t, ok := ctx.Value(traceKey{}).(*Trace); ok && t != nil {
		return t
	}
	return noTrace
}

func (t *Trace) addresses(allowed []netip.Addr, refused []string) {
	if t.Addresses != nil {
		t.Addresses(allowed, refused)
	}
}

func (t *Trace) connected(target string, started time.Time, err error) {
	if t.Connected != nil {
		t.Connected(target, time.Since(started), err)
	}
}

func (t *Trace) handshake(conn *tls.Conn, started time.Time, err error) {
	if t.Handshake == nil {
		return
	}
	h := Handshake{Took: time.Since(started), Err: err}
	state := conn.ConnectionState()
	if state.Version != 0 {
		h.Version = tls.VersionName(state.Version)
	}
	h.Chain = state.PeerCertificates
	if refused, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		h.Chain = refused.UnverifiedCertificates
	}
	t.Handshake(h)
}

func (t *Trace) answered(status int, mediaType string, started time.Time) {
	if t.Answered != nil {
		t.Answered(status, mediaType, time.Since(started))
	}
}

func (t *Trace) text(text string) {
	if t.Text != nil {
		t.Text(text)
	}
}
