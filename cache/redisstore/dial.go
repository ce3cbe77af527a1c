package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// sentinelPatience is how long one sentinel may take before another is asked.
const sentinelPatience = 100 * time.Millisecond

// dialer finds servers and connects to them. The library has one way in, dial;
// the rest is for connections of our own.
type dialer struct {
	o Options
	t target

	mu     sync.Mutex // guards what follows
	master string     // that the sentinels named last
	sure   bool       // nothing speaks against that
	turn   int        // which of the hosts is asked
}

// dial connects to a server of the database: the one at addr or, where there
// are sentinels, the master.
func (d *dialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if d.t.service == "" {
		return d.connect(ctx, addr)
	}
	addr, err := d.masterAddr(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, addr)
	if err != nil {
		d.forget(addr)
	}
	return conn, err
}

// connect connects to addr, with TLS if the URL says so. The certificate must
// be for the name or the address that was dialled.
func (d *dialer) connect(ctx context.Context, addr string) (net.Conn, error) {
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if !d.t.tls {
		return guarded(conn), nil
	}
	encrypted, err := d.encrypt(ctx, conn, addr)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return guarded(encrypted), nil
}

func (d *dialer) encrypt(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := d.o.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	encrypted := tls.Client(conn, c)
	return encrypted, encrypted.HandshakeContext(ctx)
}

// open connects for a conversation of our own: to the server, the master, or
// any node of a cluster, each of which says what is published at any other.
// It ends with ctx.
func (d *dialer) open(ctx context.Context) (*wire, string, error) {
	addr := d.host()
	conn, err := d.dial(ctx, "tcp", addr)
	if err != nil {
		d.next(addr)
		return nil, "", err
	}
	if d.t.service != "" {
		addr = d.current()
	}
	w := newWire(conn)
	password, err := d.o.password()
	if err == nil {
		err = d.login(ctx, w, password)
	}
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	return w, addr, nil
}

// login says who we are, if there is a password.
func (d *dialer) login(ctx context.Context, w *wire, password string) error {
	if password == "" {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := w.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := w.ask("AUTH", d.user(), password); err != nil {
		return d.named(err)
	}
	return nil
}

// user is who we are; without a name in the URL it is the one that every
// server has.
func (d *dialer) user() string { return cmp.Or(d.t.user, "default") }

// named adds the user to an error of logging in.
func (d *dialer) named(err error) error {
	return fmt.Errorf("the user %q is not let in: %w", d.user(), err)
}

// host returns the host of the URL whose turn it is.
func (d *dialer) host() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.t.hosts[d.turn]
}

// next gives the turn to the next host, if it is that of the given one.
func (d *dialer) next(host string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.t.hosts[d.turn] == host {
		d.turn = (d.turn + 1) % len(d.t.hosts)
	}
}

// masterAddr returns the master that the sentinels named last, or asks them.
func (d *dialer) masterAddr(ctx context.Context) (string, error) {
	d.mu.Lock()
	master, sure := d.master, d.sure
	d.mu.Unlock()
	if sure {
		return master, nil
	}
	master, _, err := d.findMaster(ctx)
	return master, err
}

// current returns the master that the sentinels named last.
func (d *dialer) current() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.master
}

// forget says that the master may be another one by now.
func (d *dialer) forget(master string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.master == master {
		d.sure = false
	}
}

// findMaster asks the sentinels for the master, and reports whether it is
// another one than they had named before. The one that answered is asked first
// the next time: its neighbours may lag behind.
func (d *dialer) findMaster(ctx context.Context) (master string, moved bool, err error) {
	for range d.t.hosts {
		sentinel := d.host()
		if master, err = d.askSentinel(ctx, sentinel); err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			moved = d.master != master && d.master != ""
			d.master, d.sure = master, true
			return master, moved, nil
		}
		d.next(sentinel)
	}
	return "", false, err
}

func (d *dialer) askSentinel(ctx context.Context, sentinel string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelPatience)
	defer cancel()
	conn, err := d.connect(ctx, sentinel)
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", sentinel, err)
	}
	defer conn.Close()
	w := newWire(conn)
	if deadline, ok := ctx.Deadline(); ok {
		if err := w.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	r, err := w.ask("SENTINEL", "get-master-addr-by-name", d.t.service)
	if err != nil && strings.HasPrefix(err.Error(), "NOAUTH") {
		r, err = d.askAgain(ctx, w)
	}
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", sentinel, err)
	}
	if len(r.items) != 2 || r.items[0].text == "" {
		return "", fmt.Errorf("sentinel %s: it knows no service %q", sentinel, d.t.service)
	}
	return net.JoinHostPort(r.items[0].text, r.items[1].text), nil
}

// askAgain asks a sentinel that wants to know who asks: the user of the
// database, with the same password.
func (d *dialer) askAgain(ctx context.Context, w *wire) (reply, error) {
	password, err := d.o.password()
	if err != nil {
		return reply{}, err
	}
	if err := d.login(ctx, w, password); err != nil {
		return reply{}, err
	}
	return w.ask("SENTINEL", "get-master-addr-by-name", d.t.service)
}
