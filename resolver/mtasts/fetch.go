package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"time"

	"tlspolicyd/resolver/policy"
)

// maxPerAddress is how many connections to one address there are at a time.
const maxPerAddress = 64

// fetcher fetches policy files. It keeps no connection and nothing that a
// host sent.
type fetcher struct {
	dns       DNS
	roots     *roots
	filter    addressFilter
	slots     *slots
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
	return &fetcher{
		dns:       o.DNS,
		roots:     roots,
		filter:    addressFilter{allow: o.AllowNetworks},
		slots:     newSlots(maxPerAddress),
		timeout:   o.FetchTimeout,
		proxy:     o.Proxy,
		dial:      o.Dial,
		userAgent: o.UserAgent,
	}, nil
}

// fetch returns the text of the policy file of domain.
func (f *fetcher) fetch(ctx context.Context, domain policy.Domain) (string, *fetchError) {
	// One deadline for everything: a host that sends a byte now and then
	// gains nothing.
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	t := transfer{fetcher: f, host: "mta-sts." + domain.String()}
	text, err := t.run(ctx)
	if err != nil && ctx.Err() != nil {
		reason := "time-out while " + t.doing
		if errors.Is(err, errBusy) {
			reason += ": " + errBusy.Error()
		}
		return "", &fetchError{result: resultTimeout, reason: oneLine(reason), err: ctx.Err()}
	}
	return text, err
}

// transfer is one fetch from one host.
type transfer struct {
	*fetcher
	// host is the policy host (RFC 8461, section 3.3).
	host string
	// doing says what it is at, for the reason of a time-out.
	doing string
}

func (t *transfer) run(ctx context.Context) (string, *fetchError) {
	conn, err := t.connect(ctx)
	if err != nil {
		return "", err
	}
	// Closing the TCP connection is enough, and does not wait for the peer.
	stop := closeWith(ctx, conn)
	defer stop()

	watched := &eofConn{Conn: conn}
	t.doing = "in the TLS handshake with " + t.host
	secure, err := t.handshake(ctx, watched)
	if err != nil {
		return "", err
	}
	return t.get(ctx, secure, watched)
}

// connect opens a TCP connection to the host, or to it through the proxy.
func (t *transfer) connect(ctx context.Context) (net.Conn, *fetchError) {
	if t.proxy != nil {
		t.doing = "connecting through the proxy " + t.proxy.Host
		return t.connectProxy(ctx)
	}
	t.doing = "looking up the address of " + t.host
	addrs, err := t.addresses(ctx, t.host)
	if err != nil {
		return nil, err
	}
	t.doing = "connecting to " + netip.AddrPortFrom(addrs[0], httpsPort).String()
	if len(addrs) > 1 {
		t.doing += fmt.Sprintf(" and %d more", len(addrs)-1)
	}
	conn, dialErr := t.race(ctx, addrs)
	if dialErr != nil {
		return nil, &fetchError{result: resultConnect, reason: oneLine(dialErr.Error()), err: dialErr}
	}
	return conn, nil
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

// errBusy is the end of the wait for a connection to an address that has as
// many as it may have.
var errBusy = errors.New("too many fetches from this address at the same time")
