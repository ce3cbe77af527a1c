//go:build e2e

// Package fleet_test has three daemons with one Redis between them, each with a
// store of its own: what one learned protects all, whatever becomes of the Redis,
// and whoever writes into it.
package fleet_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/test/redis"
	"tlspolicyd/test/world"
)

func TestMain(m *testing.M) { world.Main(m) }

const (
	relays = 3
	// week is a usual max_age.
	week = 604800
	// recheck is cache.recheck of the daemons, and soon how long what happens
	// at the next recheck may take on a busy machine.
	recheck = time.Second
	soon    = 20 * time.Second
)

// fleet are relays that share a Redis, which each reaches on a way of its own.
type fleet struct {
	*world.World
	redis  *redis.Server
	ways   [relays]*way
	relays [relays]*world.Daemon
}

// start starts a world, a Redis and three relays. Zero options mean those of the
// tests.
func start(t *testing.T, o world.Options) *fleet {
	t.Helper()
	return startWith(t, redis.Start(t, redis.Redis), "redis://", o)
}

// startWith starts a world and three relays that share a Redis. The address at
// which each reaches that stands after prefix in its URL.
func startWith(t *testing.T, server *redis.Server, prefix string, o world.Options) *fleet {
	t.Helper()
	f := &fleet{World: world.New(t), redis: server}
	o.Program = world.Build(t)
	if o.Recheck == 0 {
		o.Recheck = recheck
	}
	for i := range relays {
		f.ways[i] = newWay(t, f.redis.Addr)
		o.Shared = prefix + f.ways[i].addr
		f.relays[i] = f.Start(t, o)
	}
	for _, d := range f.relays {
		d.WaitLog(t, soon, "may lack it") // the first contact
	}
	return f
}

// everybody asks every relay.
func (f *fleet) everybody(t *testing.T, domain, want string) {
	t.Helper()
	for i, d := range f.relays {
		if got := d.Ask(t, domain); got != want {
			t.Errorf("relay %d answers %q about %s, want %q", i, got, domain, want)
		}
	}
}

// die hides everything about policies but the MX records: TXT records, policy
// hosts, and their addresses.
func (f *fleet) die(domains ...string) {
	f.Die()
	for _, d := range domains {
		f.DNS.Fault("mta-sts."+d+".", "A", dnstest.NXDomain)
		f.DNS.Fault("mta-sts."+d+".", "AAAA", dnstest.NXDomain)
	}
}

// await waits until a relay answers as it should.
func await(t *testing.T, d *world.Daemon, domain, want string) {
	t.Helper()
	begun := time.Now()
	for {
		got := d.Ask(t, domain)
		if got == want {
			return
		}
		if time.Since(begun) > soon {
			t.Fatalf("%s is answered %q after %v, want %q; the log:\n%s", domain, got, soon, want, d.Log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitShared waits until the Redis holds a policy.
func (f *fleet) awaitShared(t *testing.T, domain string) {
	t.Helper()
	f.redis.Await("record of "+domain, func() bool {
		out, err := f.redis.Try("EXISTS", "tlspolicyd:policy:1:"+domain)
		return err == nil && out == "1"
	})
}

// way is how a relay reaches the Redis. It can be cut.
type way struct {
	addr, to string

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[net.Conn]struct{}
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{addr: l.Addr().String(), to: to, conns: make(map[net.Conn]struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.close()
		serving.Wait()
	})
	return w
}

// partition cuts the way: what is sent is lost, and nobody is told. heal ends
// that.
func (w *way) partition() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
}

func (w *way) heal() {
	w.mu.Lock()
	w.cut = false
	w.mu.Unlock()
	w.close() // what was lost does not come back
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		c.Close()
	}
}

func (w *way) isCut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut
}

func (w *way) hold(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = struct{}{}
	}
}

func (w *way) drop(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		delete(w.conns, c)
		c.Close()
	}
}

func (w *way) carry(c net.Conn) {
	there, err := net.Dial("tcp", w.to)
	if err != nil {
		c.Close()
		return
	}
	w.hold(c, there)
	defer w.drop(c, there)
	var both sync.WaitGroup
	both.Go(func() { w.pass(there, c) })
	both.Go(func() { w.pass(c, there) })
	both.Wait()
}

// pass carries bytes one way, and loses them while the way is cut.
func (w *way) pass(to, from net.Conn) {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if !w.isCut() && n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = errors.Join(err, werr)
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && w.isCut() {
				return
			}
			to.Close()
			return
		}
	}
}
