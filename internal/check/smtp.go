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
	"strconv"
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
	// Timeout is the time for one host; 0 means 30 s.
	Timeout time.Duration
}

// Probe is what a mail host showed.
type Probe struct {
	// Target is the address that was connected to; empty if none could be.
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

// ErrNoSTARTTLS says that the host does not offer STARTTLS. That is an answer, and
// a refusal where TLS is demanded.
var ErrNoSTARTTLS = errors.New("the host does not offer STARTTLS")

// Why a talk ended before TLS, so that it is not known what the host would have
// shown.
var (
	// ErrUnreachable: no connection to any address of the host.
	ErrUnreachable = errors.New("no connection")
	// ErrTurnedAway: the host greets or answers EHLO with a refusal, or is no
	// mail server.
	ErrTurnedAway = errors.New("turned away")
	// ErrNotBegun: the host offers STARTTLS and refuses it.
	ErrNotBegun = errors.New("TLS is not begun")
	// ErrLost: the host fell silent, or hung up.
	ErrLost = errors.New("connection lost")
)

// earlyEnds are all of these.
var earlyEnds = [...]error{ErrUnreachable, ErrTurnedAway, ErrNotBegun, ErrLost}

// Early reports whether the talk ended before TLS, so that it cannot be known
// whether Postfix would deliver.
func (p *Probe) Early() bool {
	for _, end := range earlyEnds {
		if errors.Is(p.Err, end) {
			return true
		}
	}
	return false
}

// earlyEnd is an error with its kind, one of earlyEnds, which is not shown.
type earlyEnd struct{ kind, err error }

// Error returns the message of the error.
func (e *earlyEnd) Error() string { return e.err.Error() }

// Unwrap returns both.
func (e *earlyEnd) Unwrap() []error { return []error{e.kind, e.err} }

const (
	// maxDialogue is how much a host may say before TLS, in bytes.
	maxDialogue = 64 << 10
	// maxTargets is how many addresses of a host are tried.
	maxTargets = 4
	// connectTimeout is the time for one address.
	connectTimeout = 10 * time.Second
	// wrapperPort is where TLS begins without STARTTLS (RFC 8314).
	wrapperPort = 465
)

// look talks to one host: to its addresses, one after the other, until one leads
// to TLS or refuses it. What is returned is about the one that led furthest.
func (p *Prober) look(ctx context.Context, host string, addrs []netip.Addr, port uint16) *Probe {
	timeout := p.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	best, started := &Probe{Err: fmt.Errorf("%w: the host has no address", ErrUnreachable)}, time.Now()
	for _, addr := range addrs[:min(len(addrs), maxTargets)] {
		probe := p.visit(ctx, host, netip.AddrPortFrom(addr, port))
		if probe.Err != nil && probe.Target != "" && ctx.Err() != nil {
			probe.Err = &earlyEnd{ErrLost, fmt.Errorf("no end within %v", timeout)}
		}
		if best.Target == "" || !probe.Early() {
			best = probe
		}
		if !probe.Early() || ctx.Err() != nil {
			break
		}
	}
	best.Took = time.Since(started)
	return best
}

// visit talks to one address of a host.
func (p *Prober) visit(ctx context.Context, host string, target netip.AddrPort) *Probe {
	probe := &Probe{}
	conn, err := p.connect(ctx, target)
	if err != nil {
		probe.Err = fmt.Errorf("%w: %w", ErrUnreachable, err)
		return probe
	}
	probe.Target = target.String()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the reader reports it
	defer func() {
		stop()
		_ = conn.Close() // everything that was wanted has been read
	}()
	probe.Err = p.talk(ctx, conn, host, target.Port(), probe)
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
	})
	if err := secure.HandshakeContext(ctx); err != nil {
		err = fmt.Errorf("the TLS handshake failed: %w", err)
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

// dialogue is SMTP before TLS.
type dialogue struct {
	conn net.Conn
	in   *bufio.Reader
}

// startTLS asks for STARTTLS (RFC 3207, section 4).
func (d *dialogue) startTLS(name string, probe *Probe) error {
	if _, err := d.reply("the greeting", 220); err != nil {
		return err
	}
	lines, err := d.ask("EHLO "+name, 250)
	if err != nil {
		return err
	}
	for _, line := range lines[1:] {
		word, _, _ := strings.Cut(line, " ")
		probe.STARTTLS = probe.STARTTLS || strings.EqualFold(word, "STARTTLS")
	}
	if !probe.STARTTLS {
		return ErrNoSTARTTLS
	}
	if _, err := d.ask("STARTTLS", 220); err != nil {
		if errors.Is(err, ErrTurnedAway) {
			return &earlyEnd{ErrNotBegun, errors.New(err.Error())}
		}
		return err
	}
	if d.in.Buffered() > 0 {
		return errors.New("the host sent more than its answer to STARTTLS") // It could be anybody's.
	}
	return nil
}

// ask sends a command, and returns the reply.
func (d *dialogue) ask(command string, want int) ([]string, error) {
	if _, err := io.WriteString(d.conn, command+"\r\n"); err != nil {
		return nil, &earlyEnd{ErrLost, fmt.Errorf("sending %s: %w", command, err)}
	}
	verb, _, _ := strings.Cut(command, " ")
	return d.reply("the answer to "+verb, want)
}

// reply reads a reply of one or several lines (RFC 5321, section 4.2).
func (d *dialogue) reply(what string, want int) ([]string, error) {
	var lines []string
	for {
		line, err := d.in.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil, &earlyEnd{ErrLost, fmt.Errorf("the host hung up before %s", what)}
		case err != nil:
			return nil, &earlyEnd{ErrLost, fmt.Errorf("reading %s: %w", what, err)}
		}
		line = strings.TrimRight(line, "\r\n")
		code, err := strconv.Atoi(line[:min(3, len(line))])
		if err != nil || code != want {
			return nil, &earlyEnd{ErrTurnedAway, fmt.Errorf("%s is %q, want %d", what, line[:min(120, len(line))], want)}
		}
		lines = append(lines, strings.TrimLeft(line[3:], " -"))
		if len(line) < 4 || line[3] != '-' {
			return lines, nil
		}
	}
}
