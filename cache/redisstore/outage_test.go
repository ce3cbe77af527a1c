//go:build e2e

package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/test/redis"
)

// slack is what a busy machine adds to the time that a call may take.
const slack = 250 * time.Millisecond

// proxy stands between a store and its server.
type proxy struct {
	addr  string
	read  atomic.Int64 // bytes from the server
	delay atomic.Int64 // of each piece from the server
	wg    sync.WaitGroup
}

func startProxy(t *testing.T, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(ctx, client, server) })
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(ctx context.Context, client net.Conn, server string) {
	conn, err := net.Dial("tcp", server)
	if err != nil {
		client.Close()
		return
	}
	p.wg.Go(func() {
		<-ctx.Done()
		client.Close()
		conn.Close()
	})
	p.wg.Go(func() {
		_, _ = io.Copy(conn, client) // Ends with either.
		conn.Close()
	})
	b := make([]byte, 16<<10)
	for {
		n, err := conn.Read(b)
		if err != nil {
			client.Close()
			return
		}
		p.read.Add(int64(n))
		select {
		case <-time.After(time.Duration(p.delay.Load())):
		case <-ctx.Done():
		}
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// wantUnknown fails unless err says nothing about a domain.
func wantUnknown(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
		t.Errorf("got %v, want an error that says nothing about the domain", err)
	}
}

func TestNothingThereIsNoHurry(t *testing.T) {
	t.Parallel()
	gone := redis.New(t, redis.Redis)
	log, logs := watched()
	o := at(t, gone)
	o.Log = log
	s := start(t, o)
	if s.Status().Up {
		t.Error("up, before anybody has answered")
	}
	until(t, "out of reach", isDown(s))
	begun := time.Now()
	for range 1000 {
		_, err := s.Load(t.Context(), domainOf(t, "a.example"))
		wantUnknown(t, err)
		if !errors.Is(err, cache.ErrUnavailable) {
			t.Fatalf("Load: %v, want ErrUnavailable", err)
		}
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("1000 calls took %s though there is nothing to wait for", took)
	}
	if st := s.Status(); st.Up || st.Err == nil || st.Address != "redis://"+gone.Addr {
		t.Errorf("Status = %+v", st)
	}
	gone.Start()
	until(t, "in reach", isUp(s))
	awaitBehind(t, s)
	mustSave(t, s, record(t, "a.example"))
	if st := s.Status(); st.Err != nil {
		t.Errorf("Status = %+v", st)
	}
	want := []string{"the shared store is out of reach; this relay goes on with what it knows itself", "the shared store is in reach"}
	for i, e := range logs.All() {
		if i >= len(want) || e.Message != want[i] {
			t.Errorf("logged %q, want %q", e.Message, want)
		}
	}
}

func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	a, b := start(t, at(t, server)), start(t, at(t, server))
	awaitBehind(t, a)
	awaitBehind(t, b)
	mustSave(t, a, record(t, "a.example"))
	server.Kill()
	until(t, "out of reach", isDown(a))
	server.Start()
	until(t, "in reach", isUp(a))
	awaitBehind(t, a)
	awaitBehind(t, b)
	if _, err := a.Load(t.Context(), domainOf(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load of what the server forgot: %v", err)
	}
	awaitTold(t, a, b)
}

// awaitTold waits until b is told what a saves.
func awaitTold(t *testing.T, a, b *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := record(t, "told.example")
	r.Fetched = time.Now().Add(-time.Hour).Truncate(time.Second)
	heard := make(chan error, 1)
	go func() {
		for {
			news, err := b.Next(ctx)
			if err != nil || news.Changed == r.Domain {
				heard <- err
				return
			}
		}
	}()
	for {
		r.Fetched, r.ID = r.Fetched.Add(time.Second), r.ID+"0"
		if err := a.Save(t.Context(), r); err != nil {
			t.Logf("Save: %v", err)
		}
		select {
		case err := <-heard:
			if err != nil {
				t.Fatalf("not told of %s: %v", r.Domain, err)
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestEmptiedWhileInUse(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	awaitBehind(t, s)
	notBehind(t, s, 2500*time.Millisecond) // the marker is made, and read
	server.Do("FLUSHALL")
	awaitBehind(t, s)
	notBehind(t, s, 2500*time.Millisecond)
}

func TestStopped(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	a, b := start(t, at(t, server)), start(t, at(t, server))
	until(t, "in reach", isUp(a))
	awaitBehind(t, a)
	r := record(t, "a.example")
	mustSave(t, a, r)
	server.Stop()
	wait := func(what string, f func() error) {
		begun := time.Now()
		wantUnknown(t, f())
		if took := time.Since(begun); took > callTimeout+slack {
			t.Errorf("%s took %s", what, took)
		}
	}
	for range 3 {
		wait("Load", func() error { _, err := a.Load(t.Context(), r.Domain); return err })
		wait("Save", func() error { return a.Save(t.Context(), r) })
		wait("Remove", func() error { return a.Remove(t.Context(), r.Domain) })
		wait("RemoveAll", func() error { _, err := a.RemoveAll(t.Context()); return err })
	}
	if err := a.breaker.allow(); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("after 12 failed calls: %v", err)
	}
	// Long enough for the subscription to give up.
	time.Sleep((maxSilent + 1) * time.Second)
	server.Continue()
	until(t, "in reach", isUp(a))
	wantLoad(t, a, r)
	awaitTold(t, a, b)
	notBehind(t, a, 1500*time.Millisecond) // nothing is lost
}

func TestSlowServer(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	p := startProxy(t, server.Addr)
	s := start(t, Options{URL: mustURL(t, "redis://"+p.addr)})
	until(t, "in reach", isUp(s))
	r := record(t, "a.example")
	mustSave(t, s, r)
	p.delay.Store(int64(50 * time.Millisecond))
	wantLoad(t, s, r)
	p.delay.Store(int64(time.Second))
	// More calls at once than there are connections: waiting for one counts.
	var wg sync.WaitGroup
	for range 4 * poolSize {
		wg.Go(func() {
			begun := time.Now()
			_, err := s.Load(context.Background(), r.Domain)
			wantUnknown(t, err)
			if took := time.Since(begun); took > callTimeout+slack {
				t.Errorf("Load took %s", took)
			}
		})
	}
	wg.Wait()
	until(t, "out of reach", isDown(s))
	p.delay.Store(0)
	until(t, "in reach", isUp(s))
	wantLoad(t, s, r)
}

func TestNoMoreMemory(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	log, logs := watched()
	o := at(t, server)
	o.Log = log
	s := start(t, o)
	until(t, "in reach", isUp(s))
	first := record(t, "a.example")
	mustSave(t, s, first)
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	server.Do("CONFIG", "SET", "maxmemory", "1mb")
	for range 2 * maxFailures {
		err := s.Save(t.Context(), record(t, "b.example"))
		wantUnknown(t, err)
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("Save: %v, want OOM", err)
		}
		wantLoad(t, s, first)
	}
	if st := s.Status(); !st.Up || st.Err == nil {
		t.Errorf("Status = %+v, want up, and the reason", st)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	mustSave(t, s, record(t, "b.example"))
	if st := s.Status(); !st.Up || st.Err != nil {
		t.Errorf("Status = %+v", st)
	}
	wantMessages(t, logs.FilterField(zap.String("op", opSave)).All(),
		"the shared store refuses what it is asked", "the shared store does again what it is asked")
}

func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	master := redis.Start(t, redis.Redis)
	replica := redis.StartReplica(t, master)
	r := record(t, "a.example")
	mustSave(t, open(t, at(t, master)), r)
	s := start(t, at(t, replica))
	until(t, "in reach", isUp(s))
	until(t, "the copy", func() bool { _, err := s.Load(t.Context(), r.Domain); return err == nil })
	for range 2 * maxFailures {
		err := s.Save(t.Context(), record(t, "b.example"))
		wantUnknown(t, err)
		if err == nil || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("Save: %v, want READONLY", err)
		}
		wantUnknown(t, s.Remove(t.Context(), r.Domain))
		wantLoad(t, s, r)
	}
}

func TestGivenUpIsNoOutage(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	until(t, "in reach", isUp(s))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 * maxFailures {
		_, err := s.Load(ctx, domainOf(t, "a.example"))
		wantUnknown(t, err)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Load: %v, want context.Canceled", err)
		}
	}
	if !s.Status().Up {
		t.Error("callers who gave up opened the breaker")
	}
}

// A burst of calls, at a server that is well and 20 ms away: many wait for a
// connection until their time is over.
func TestBurstIsNoOutage(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	p := startProxy(t, server.Addr)
	p.delay.Store(int64(20 * time.Millisecond))
	s := start(t, Options{URL: mustURL(t, "redis://"+p.addr)})
	until(t, "in reach", isUp(s))
	d := domainOf(t, "a.example")
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if _, err := s.Load(context.Background(), d); errors.Is(err, cache.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if isDown(s)() {
		t.Errorf("a server that is well is out of reach: %v", s.breaker.allow())
	}
}

// A server so far away that a call has the time for one question only.
func TestFarAway(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	protect(t, server)
	p := startProxy(t, server.Addr)
	p.delay.Store(int64(150 * time.Millisecond))
	s := start(t, withUser(t, "redis://tlspolicyd@"+p.addr))
	until(t, "in reach", isUp(s))
	for range 3 {
		if _, err := s.Load(t.Context(), domainOf(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load: %v", err)
		}
	}
	p.delay.Store(int64(5 * time.Second))
	until(t, "out of reach", isDown(s))
	p.delay.Store(int64(150 * time.Millisecond))
	until(t, "in reach", isUp(s))
}

// A server of which every connection ends in a refusal is out of reach, and the
// reason is told.
func TestNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	users := redis.Start(t, redis.Redis)
	noAuth := redis.Start(t, redis.Redis, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	protect(t, users)
	users.Do("ACL", "SETUSER", "tlspolicyd", "-select")
	node := redis.Start(t, redis.Redis, "--cluster-enabled", "yes")
	for want, o := range map[string]Options{
		"'select' command":             withUser(t, "redis://tlspolicyd@"+users.Addr+"/1"),
		"SELECT is not allowed":        {URL: mustURL(t, "redis://"+node.Addr+"/1")},
		"unknown command 'auth'":       {URL: mustURL(t, "redis://"+noAuth.Addr), PasswordFile: write(t, "password", secret)},
		"ERR DB index is out of range": {URL: mustURL(t, "redis://"+server.Addr+"/99")},
		"unknown command 'SENTINEL'":   {URL: mustURL(t, "redis+sentinel://"+server.Addr+"/mymaster")},
	} {
		s := start(t, o)
		until(t, want, isDown(s))
		if st := s.Status(); st.Up || st.Err == nil || !strings.Contains(strings.ToLower(st.Err.Error()), strings.ToLower(want)) {
			t.Errorf("Status = %+v, want %s", st, want)
		}
	}
}
