package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"tlspolicyd/resolver/policy"
)

// fetcher fetches policy files. It keeps no connection and nothing that a
// host sent.
type fetcher struct {
	dns       DNS
	roots     *roots
	filter    addressFilter
	first     *gate
	refresh   *gate
	timeout   time.Duration
	proxy     *url.URL
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	userAgent string
}

func newFetcher(o Options) (*fetcher, error) {
	if err := checkProxy(o.Proxy); err != nil {
		return nil, err
	}
	for _, p := range o.AllowNetworks {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("not a network to allow: %q", p)
		}
	}
	roots, err := newRoots(o.CAFile, o.Log)
	if err != nil {
		return nil, err
	}
	first, refresh := newGates(o.FetchTimeout)
	return &fetcher{
		dns:       o.DNS,
		roots:     roots,
		filter:    addressFilter{allow: o.AllowNetworks},
		first:     first,
		refresh:   refresh,
		timeout:   o.FetchTimeout,
		proxy:     o.Proxy,
		dial:      o.Dial,
		userAgent: o.UserAgent,
	}, nil
}

// gate returns what the connections of a fetch that follows prev go through.
func (f *fetcher) gate(prev *policy.STS) *gate {
	if prev.Wanted == "" {
		return f.refresh
	}
	return f.first
}

// fetch returns the text of the policy file of domain. Its connections go
// through g.
func (f *fetcher) fetch(ctx context.Context, domain policy.Domain, g *gate) (string, *fetchError) {
	// One deadline for everything: a host that sends a byte now and then
	// gains nothing.
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	t := transfer{fetcher: f, gate: g, host: PolicyHost(domain)}
	if f.proxy != nil {
		return t.throughProxy(ctx)
	}
	return t.direct(ctx)
}

// transfer is one fetch from one host.
type transfer struct {
	*fetcher
	gate *gate
	// patient is until when it waits for a place to connect.
	patient time.Time
	// host is the policy host (RFC 8461, section 3.3).
	host string
	// doing says what it is at, for the reason of a time-out.
	doing string
}

func (t *transfer) throughProxy(ctx context.Context) (string, *fetchError) {
	t.doing = "connecting through the proxy " + t.proxy.Host
	leave, busy := t.gate.enterAny(ctx, time.Now().Add(t.gate.patience))
	if busy != nil {
		return "", t.notConnected(ctx, fmt.Errorf("%s: %w", t.doing, busy))
	}
	defer leave()
	conn, err := t.connectProxy(ctx)
	if err != nil {
		return "", t.orTimeout(ctx, err)
	}
	text, err, _ := t.exchange(ctx, ctx, conn)
	return text, err
}

// direct fetches from the first address with which TLS succeeds. What comes
// after that, a status or a broken connection, is the answer of the host, and
// no other address is asked for a better one.
func (t *transfer) direct(ctx context.Context) (string, *fetchError) {
	t.doing = "looking up the address of " + t.host
	addrs, err := t.addresses(ctx, t.host)
	if err != nil {
		return "", t.orTimeout(ctx, err)
	}
	t.patient = time.Now().Add(t.gate.patience)
	var refused *fetchError
	for len(addrs) > 0 {
		conn, err := t.connect(ctx, addrs)
		if err != nil {
			return "", worse(refused, err)
		}
		addrs = without(addrs, conn.addr)
		text, err, secure := t.fromAddress(ctx, conn, len(addrs))
		if secure {
			return text, err
		}
		refused = worse(refused, err)
	}
	return "", refused
}

func without(addrs []netip.Addr, addr netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a == addr })
}

// worse returns the failure to tell of two: how TLS failed says more than why
// other addresses could not be reached afterwards. If there was no place for a
// connection, it is not known whether it would have failed.
func worse(before, err *fetchError) *fetchError {
	if before == nil || err.result == resultBusy {
		return err
	}
	return before
}

// connect opens a TCP connection to one of addrs.
func (t *transfer) connect(ctx context.Context, addrs []netip.Addr) (*slotConn, *fetchError) {
	t.doing = "connecting to " + netip.AddrPortFrom(addrs[0], httpsPort).String()
	if len(addrs) > 1 {
		t.doing += fmt.Sprintf(" and %d more", len(addrs)-1)
	}
	conn, err := t.race(ctx, addrs)
	if err != nil {
		return nil, t.notConnected(ctx, err)
	}
	return conn, nil
}

// notConnected makes a fetchError from the error of a connection.
func (t *transfer) notConnected(ctx context.Context, err error) *fetchError {
	failed := &fetchError{result: resultConnect, reason: oneLine(err.Error()), err: err}
	if errors.Is(err, errBusy) {
		failed.result = resultBusy
		return failed
	}
	return t.orTimeout(ctx, failed)
}

// fromAddress fetches over a connection. While there are other addresses left,
// TLS may take no more than half of the time that is.
func (t *transfer) fromAddress(ctx context.Context, conn *slotConn, left int) (text string, err *fetchError, secure bool) {
	inTime := ctx
	if end, ok := ctx.Deadline(); ok && left > 0 {
		var cancel context.CancelFunc
		inTime, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	return t.exchange(ctx, inTime, conn)
}

// exchange does TLS and HTTP over a connection, TLS within handshake, and
// reports whether TLS succeeded.
func (t *transfer) exchange(ctx, handshake context.Context, conn net.Conn) (text string, err *fetchError, secure bool) {
	// Closing the TCP connection is enough, and does not wait for the peer.
	stop := closeWith(ctx, conn)
	defer stop()

	watched := &eofConn{Conn: conn}
	t.doing = "in the TLS handshake with " + t.host
	tlsConn, err := t.handshake(handshake, watched)
	if err != nil {
		return "", t.orTimeout(handshake, err), false
	}
	text, err = t.get(ctx, tlsConn, watched)
	return text, t.orTimeout(ctx, err), true
}

// orTimeout returns err, or if the time was over before it, that.
func (t *transfer) orTimeout(ctx context.Context, err *fetchError) *fetchError {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return &fetchError{result: resultTimeout, reason: oneLine("time-out while " + t.doing), err: ctx.Err()}
}

// closeWith closes conn when ctx ends, which ends what waits for it. The
// function that it returns closes conn too, and lets go of ctx.
func closeWith(ctx context.Context, conn net.Conn) (stop func()) {
	closed := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close() // the reader reports that ctx has ended
	})
	return func() {
		if !release() {
			<-closed
			return
		}
		_ = conn.Close() // everything that was wanted has been read
	}
}
