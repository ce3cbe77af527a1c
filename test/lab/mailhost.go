//go:build e2e

package lab

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sessionTime is the most that one SMTP session may take.
const sessionTime = time.Minute

// Session is what a mail host saw of one connection.
type Session struct {
	// Client is how the client called itself.
	Client string
	// TLS says that the client went over to TLS, and with which version and
	// name of the server (SNI; empty without).
	TLS     bool
	Version uint16
	SNI     string
	// InClear are the commands that came without TLS, upper-case verbs only.
	InClear []string
	// Mails are those that were taken.
	Mails []Mail
}

// Mail is one message as it arrived.
type Mail struct {
	From, To string
	Data     string
	// TLS says that it did not come in clear.
	TLS bool
}

// MailHost takes mail for everybody on an address of its own. Without a
// certificate it offers no STARTTLS, as behind an attacker who strips it.
type MailHost struct {
	// Addr is the IPv4 address.
	Addr string

	cert *tls.Certificate
	open sync.WaitGroup

	mu       sync.Mutex // guards what follows
	sessions []*Session
	conns    map[net.Conn]struct{}
}

// StartMailHost starts a mail host that shows cert; nil means no STARTTLS.
func (l *Lab) StartMailHost(t testing.TB, cert *tls.Certificate) *MailHost {
	t.Helper()
	return l.StartMailHostAt(t, cert, "25")
}

// StartMailHostAt starts a mail host at another port.
func (l *Lab) StartMailHostAt(t testing.TB, cert *tls.Certificate, port string) *MailHost {
	t.Helper()
	h := &MailHost{Addr: l.Address(), cert: cert, conns: make(map[net.Conn]struct{})}
	listener, err := net.Listen("tcp", net.JoinHostPort(h.Addr, port))
	if err != nil {
		t.Fatalf("starting a mail host: %v", err)
	}
	h.open.Go(func() { h.accept(listener) })
	t.Cleanup(func() {
		listener.Close()
		h.hangUp()
		h.open.Wait()
	})
	return h
}

// Sessions returns what the host has seen, sessions in progress included.
func (h *MailHost) Sessions() []Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]Session, 0, len(h.sessions))
	for _, s := range h.sessions {
		c := *s
		c.InClear, c.Mails = slices.Clone(s.InClear), slices.Clone(s.Mails)
		all = append(all, c)
	}
	return all
}

// Mails returns the messages that the host has taken.
func (h *MailHost) Mails() []Mail {
	var all []Mail
	for _, s := range h.Sessions() {
		all = append(all, s.Mails...)
	}
	return all
}

// MailInClear reports whether anything of a mail came without TLS.
func (h *MailHost) MailInClear() bool {
	for _, s := range h.Sessions() {
		for _, verb := range []string{"MAIL", "RCPT", "DATA"} {
			if slices.Contains(s.InClear, verb) {
				return true
			}
		}
	}
	return false
}

func (h *MailHost) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		h.open.Go(func() { h.serve(conn) })
	}
}

func (h *MailHost) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.conns {
		conn.Close()
	}
}

// serve speaks with one client. Errors end the session: what the client did
// until then is what the test looks at.
func (h *MailHost) serve(conn net.Conn) {
	defer conn.Close()
	s := &Session{}
	h.mu.Lock()
	h.sessions = append(h.sessions, s)
	h.conns[conn] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, conn)
	}()
	if conn.SetDeadline(time.Now().Add(sessionTime)) != nil {
		return
	}
	d := dialogue{host: h, session: s}
	d.use(conn)
	d.say("220 mail host of the lab")
	for d.step() {
	}
}

// dialogue is the state of one SMTP session (RFC 5321, RFC 3207).
type dialogue struct {
	host    *MailHost
	session *Session
	conn    net.Conn
	r       *textproto.Reader
	mail    Mail
	err     error
}

func (d *dialogue) use(conn net.Conn) {
	d.conn = conn
	d.r = textproto.NewReader(bufio.NewReader(conn))
}

func (d *dialogue) say(line string) {
	if d.err == nil {
		_, d.err = d.conn.Write([]byte(line + "\r\n"))
	}
}

// step answers one command, and reports whether there may be another.
func (d *dialogue) step() bool {
	line, err := d.r.ReadLine()
	if err != nil || d.err != nil {
		return false
	}
	verb, rest, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	d.note(verb)
	switch verb {
	case "EHLO":
		d.ehlo(rest)
	case "STARTTLS":
		d.startTLS()
	case "MAIL":
		d.mail = Mail{From: path(rest), TLS: d.session.TLS}
		d.say("250 2.1.0 ok")
	case "RCPT":
		d.mail.To = path(rest)
		d.say("250 2.1.5 ok")
	case "DATA":
		d.data()
	case "QUIT":
		d.say("221 2.0.0 bye")
		return false
	case "HELO", "RSET", "NOOP":
		d.say("250 2.0.0 ok")
	default:
		d.say("502 5.5.1 not here")
	}
	return d.err == nil
}

// note records a command that came in clear.
func (d *dialogue) note(verb string) {
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if !d.session.TLS {
		d.session.InClear = append(d.session.InClear, verb)
	}
}

func (d *dialogue) ehlo(client string) {
	d.host.mu.Lock()
	d.session.Client = client
	d.host.mu.Unlock()
	if d.host.cert != nil && !d.session.TLS {
		d.say("250-mail host of the lab")
		d.say("250 STARTTLS")
		return
	}
	d.say("250 mail host of the lab")
}

func (d *dialogue) startTLS() {
	if d.host.cert == nil || d.session.TLS {
		d.say("502 5.5.1 not here")
		return
	}
	d.say("220 2.0.0 ready")
	conn := tls.Server(d.conn, &tls.Config{Certificates: []tls.Certificate{*d.host.cert}, MinVersion: tls.VersionTLS12})
	if d.err == nil {
		d.err = conn.Handshake()
	}
	if d.err != nil {
		return
	}
	state := conn.ConnectionState()
	d.host.mu.Lock()
	d.session.TLS, d.session.Version, d.session.SNI = true, state.Version, state.ServerName
	d.host.mu.Unlock()
	d.use(conn)
}

func (d *dialogue) data() {
	d.say("354 go on")
	data, err := d.r.ReadDotBytes()
	if err != nil {
		d.err = err
		return
	}
	d.mail.Data = string(data)
	d.host.mu.Lock()
	d.session.Mails = append(d.session.Mails, d.mail)
	d.host.mu.Unlock()
	d.say("250 2.0.0 taken")
}

// path returns the address in "FROM:<address> ...".
func path(arg string) string {
	_, arg, _ = strings.Cut(arg, "<")
	address, _, _ := strings.Cut(arg, ">")
	return address
}
