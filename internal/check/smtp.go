package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Prober looks at mail hosts: does a host offer STARTTLS, and with which
// certificate. It sends no mail.
type Prober struct {
	// Dial opens a TCP connection; nil means that of [net.Dialer].
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Name is what it calls itself; empty means "localhost".
	Name string
	// Roots are the authorities that Postfix trusts; nil means those of the
	// system.
	Roots *x509.CertPool
	// Timeout is the time for one host, of which each of its addresses has its
	// share; 0 means 30 s.
	Timeout time.Duration
}

// Probe is what a mail host showed at one of its addresses.
type Probe struct {
	// Target is the address and the port; empty if the host's address is not known.
	Target string
	// STARTTLS says that the host offers it.
	STARTTLS bool
	// Version is that of TLS, and Chain are the certificates, the host's own
	// first; empty if it did not come to that.
	Version string
	Chain   []*x509.Certificate
	Took    time.Duration
	// Err says why it did not come to a TLS session; nil if it did.
	Err error
	// Refused says why Postfix would not deliver to the host, as the answer of
	// the map demands; empty if it would, or if that cannot be known, see
	// [Probe.Early]. Note is a remark on that.
	Refused, Note string
}

const (
	// maxDialogue is how much a host may say before TLS, in bytes.
	maxDialogue = 64 << 10
	// maxTargets is how many addresses of a host are tried, as with Postfix's
	// smtp_mx_address_limit.
	maxTargets = 5
	// connectTimeout is the time for one address.
	connectTimeout = 10 * time.Second
	// wrapperPort is where TLS begins without STARTTLS (RFC 8314).
	wrapperPort = 465
)

// look talks to the addresses of a host, one after the other, and has each
// judged, until one passes: Postfix goes on to the next one too, whatever keeps
// mail from this one. It returns all that it saw.
func (p *Prober) look(ctx context.Context, host string, addrs []netip.Addr, port uint16, judge func(*Probe)) []*Probe {
	timeout := p.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	addrs = addrs[:min(len(addrs), maxTargets)]
	var seen []*Probe
	deadline := time.Now().Add(timeout)
	for i, addr := range addrs {
		share := time.Until(deadline) / time.Duration(len(addrs)-i)
		probe := p.visit(ctx, host, netip.AddrPortFrom(addr, port), share)
		judge(probe)
		seen = append(seen, probe)
		if probe.passed() || ctx.Err() != nil {
			break
		}
	}
	return seen
}

// decisive returns the probe that decides about a host: one that passes, or one
// of which it is not known, or the first that is refused.
func decisive(probes []*Probe) *Probe {
	best := probes[0]
	for _, p := range probes[1:] {
		if p.weight() > best.weight() {
			best = p
		}
	}
	return best
}

// weight says how much a probe decides about its host.
func (p *Probe) weight() int {
	switch {
	case p.passed():
		return 3
	case p.Refused != "":
		return 0
	case errors.Is(p.Err, ErrUnreachable):
		return 1
	default:
		return 2
	}
}

// visit talks to one address of a host.
func (p *Prober) visit(ctx context.Context, host string, target netip.AddrPort, timeout time.Duration) *Probe {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	probe, started := &Probe{Target: target.String()}, time.Now()
	defer func() { probe.Took = time.Since(started) }()
	conn, err := p.connect(ctx, target)
	if err != nil {
		probe.Err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		return probe
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the reader reports it
	defer func() {
		stop()
		_ = conn.Close() // everything that was wanted has been read
	}()
	probe.Err = p.talk(ctx, conn, host, target.Port(), probe)
	if probe.Err != nil && ctx.Err() != nil {
		probe.Err = &earlyEnd{ErrLost, fmt.Errorf("no end within %s", took(timeout))}
	}
	return probe
}

func (p *Prober) connect(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return dial(ctx, "tcp", target.String())
}

// talk leads a connection to TLS.
func (p *Prober) talk(ctx context.Context, conn net.Conn, host string, port uint16, probe *Probe) error {
	if port != wrapperPort {
		d := &dialogue{conn: conn, in: bufio.NewReader(io.LimitReader(conn, maxDialogue))}
		if err := d.startTLS(p.name(), probe); err != nil {
			return err
		}
	}
	secure := tls.Client(conn, &tls.Config{
		ServerName: host,
		// Whatever is shown is to be seen; it is judged afterwards.
		InsecureSkipVerify: true, //nolint:gosec // As said above: nothing is sent over it.
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       ciphers(),
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		err = fmt.Errorf("%w: %w", ErrHandshake, err)
		if hungUp(err) {
			return &earlyEnd{ErrLost, err}
		}
		return err
	}
	state := secure.ConnectionState()
	probe.Version, probe.Chain = tls.VersionName(state.Version), state.PeerCertificates
	_, _ = io.WriteString(secure, "QUIT\r\n") // The host may be gone; nothing depends on it.
	return nil
}

// ciphers are those that Postfix has too: also the ones without forward secrecy,
// which old mail hosts insist on, but not those that OpenSSL has given up.
func ciphers() []uint16 {
	var ids []uint16
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !strings.Contains(suite.Name, "RC4") && !strings.Contains(suite.Name, "3DES") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// hungUp reports whether a connection ended without a word of TLS on why.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (p *Prober) name() string {
	if p.Name == "" {
		return "localhost"
	}
	return p.Name
}
