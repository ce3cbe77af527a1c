package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// poolSize is how many calls can be under way, to each server.
	poolSize = 16
	// maxDials is how many connections are made at the same time: a burst of
	// calls is not to spend its time with greetings.
	maxDials = 4
	// connectWithin is the most that it may take to connect, and to be let in.
	// No call waits so long, but the next one finds the connection.
	connectWithin = 2 * time.Second
	// sentinelPatience is how long one sentinel may take before another is asked.
	sentinelPatience = 300 * time.Millisecond
)

// dialer finds servers and connects to them.
type dialer struct {
	o Options
	t target

	mu     sync.Mutex // guards what follows
	secret string     // the password that was shown last
	master string     // that the sentinels named last
	sure   bool       // nothing speaks against that
	moved  bool       // another one than that before, which may be in use yet
	turn   int        // which of the sentinels is asked
	passed bool       // to the next one, since one has named the master
}

// options configure the library. Version 2 of the protocol, no CLIENT SETINFO
// and no CLIENT MAINT_NOTIFICATIONS are what every server and every user
// understands; nothing is tried twice, but for the redirections of a cluster.
// How long a call waits, its context says; half of that may go by without a
// connection, since the server is to have the rest.
func (d *dialer) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs: d.t.hosts, DB: d.t.db, Dialer: d.dial, CredentialsProviderContext: d.credentials, Protocol: 2,
		ContextTimeoutEnabled: true, DialTimeout: connectWithin, ReadTimeout: connectWithin, PoolTimeout: d.o.timeout / 2,
		DialerRetries: 1, MaxRetries: -1, PoolSize: poolSize, MaxConcurrentDials: maxDials, PipelinePoolSize: -1,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (d *dialer) newClient() redis.UniversalClient {
	if !d.t.cluster {
		return redis.NewClient(d.options().Simple())
	}
	o := d.options().Cluster()
	o.DisableRoutingPolicies = true
	return redis.NewClusterClient(o)
}

type credentials func(context.Context) (user, password string, err error)

// credentials is called by the library for each connection.
func (d *dialer) credentials(context.Context) (user, password string, err error) {
	password, err = d.o.password()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.secret = password
	return d.t.user, password, err
}

// discreet is an answer of a server without what it repeats of a command.
type discreet struct {
	error
	text string
}

func (d discreet) Error() string { return d.text }
func (d discreet) Unwrap() error { return d.error }

// discreet takes the password out of an error: a server that knows no AUTH tells
// what it was sent, or the first 128 bytes of that.
func (d *dialer) discreet(err error) error {
	var answer redis.Error
	if !errors.As(err, &answer) {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), ", with args beginning with")
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.secret != "" {
		text = strings.ReplaceAll(text, d.secret, "***")
	}
	return discreet{err, text}
}

// named adds the user to an error of logging in.
func (d *dialer) named(err error) error {
	return fmt.Errorf("the user %q is not let in: %w", cmp.Or(d.t.user, "default"), err)
}

// errNoMaster: whatever a sentinel answers, it is not the database.
var errNoMaster = errors.New("no master is known")

// dial connects to a server of the database: the one at addr or, where there
// are sentinels, the master.
func (d *dialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	if d.t.service == "" {
		return d.connect(ctx, "tcp", addr)
	}
	addr, err := d.masterAddr(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoMaster, err)
	}
	conn, err := d.connect(ctx, "tcp", addr)
	if err != nil {
		d.forget(addr)
	}
	return conn, err
}

// connect connects to addr, with TLS if the URL says so. The certificate must
// be for the name or the address that was dialled.
func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	var plain net.Dialer
	conn, err := plain.DialContext(ctx, network, addr)
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

// masterAddr returns the master that the sentinels named last, or asks them.
func (d *dialer) masterAddr(ctx context.Context) (string, error) {
	d.mu.Lock()
	master, sure := d.master, d.sure
	d.mu.Unlock()
	if sure {
		return master, nil
	}
	return d.findMaster(ctx)
}

// lastNamed returns the master that the sentinels named last.
func (d *dialer) lastNamed() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.master
}

// hasMoved reports whether the sentinels have named another master since it was
// asked last.
func (d *dialer) hasMoved() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	moved := d.moved
	d.moved = false
	return moved
}

// forget says that the master may be another one by now.
func (d *dialer) forget(master string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.master == master {
		d.sure = false
	}
}

// doubt says that the master that was named is out of reach, or none: the sentinel
// that named it may be cut off from the others, and the next one know better. That
// one is asked, however many calls fail until then.
func (d *dialer) doubt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.passed {
		d.sure, d.passed, d.turn = false, true, (d.turn+1)%len(d.t.hosts)
	}
}

// isReplica reports whether a server does not write since it follows another. Redis
// 6 says so in the middle of what it says of a script.
func isReplica(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(answer.Error(), "READONLY ")
}

// findMaster asks the sentinels for the master. The one that answered is asked
// first the next time: its neighbours may lag behind.
func (d *dialer) findMaster(ctx context.Context) (master string, err error) {
	for range d.t.hosts {
		sentinel := d.asked()
		if master, err = d.askSentinel(ctx, sentinel); err == nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.moved = d.moved || d.master != master && d.master != ""
			d.master, d.sure, d.passed = master, true, false
			return master, nil
		}
		d.pass(sentinel)
	}
	return "", err
}

// asked returns the sentinel whose turn it is.
func (d *dialer) asked() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.t.hosts[d.turn]
}

// pass gives the turn to the next sentinel, if it is that of the given one.
func (d *dialer) pass(sentinel string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.t.hosts[d.turn] == sentinel {
		d.turn = (d.turn + 1) % len(d.t.hosts)
	}
}

// askSentinel asks one sentinel. It is told the user and password of the
// database only if it wants to know who asks.
func (d *dialer) askSentinel(ctx context.Context, sentinel string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sentinelPatience)
	defer cancel()
	addr, err := d.askAs(ctx, sentinel, nil)
	if redis.HasErrorPrefix(err, "NOAUTH") && d.o.PasswordFile != "" {
		addr, err = d.askAs(ctx, sentinel, d.credentials)
	}
	if errors.Is(err, redis.Nil) || err == nil && (len(addr) != 2 || addr[0] == "") {
		err = fmt.Errorf("it knows no service %q", d.t.service)
	}
	if err != nil {
		return "", fmt.Errorf("sentinel %s: %w", sentinel, d.discreet(err))
	}
	return net.JoinHostPort(addr[0], addr[1]), nil
}

func (d *dialer) askAs(ctx context.Context, sentinel string, who credentials) (addr []string, err error) {
	o := d.options().Simple()
	o.Addr, o.DB, o.Dialer, o.CredentialsProviderContext = sentinel, 0, d.connect, who
	client := redis.NewSentinelClient(o)
	defer client.Close()
	err = safely(func() error {
		answer := client.GetMasterAddrByName(ctx, d.t.service)
		addr = answer.Val()
		return answer.Err()
	})
	return addr, err
}
