package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/cache"
)

// answerError is what a server says is wrong.
type answerError string

func (e answerError) Error() string { return string(e) }

// RedisError marks an answer of the server.
func (answerError) RedisError() {}

var errRefused = errors.New("connection refused")

// fakeServer is a database as the breaker sees it.
type fakeServer struct {
	b     *breaker
	asked int

	mu    sync.Mutex    // guards what follows
	err   error         // what it answers
	takes time.Duration // how long it takes
}

func (f *fakeServer) set(err error, takes time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.takes = err, takes
}

// answer takes its time, and returns what the server answers.
func (f *fakeServer) answer() error {
	f.mu.Lock()
	err, takes := f.err, f.takes
	f.mu.Unlock()
	time.Sleep(takes)
	return err
}

// call asks the server unless the breaker knows better.
func (f *fakeServer) call() error {
	if err := f.b.allow(); err != nil {
		return err
	}
	f.asked++
	begun := time.Now()
	err := f.answer()
	f.b.done(opLoad, begun, err)
	return err
}

func (f *fakeServer) probe(context.Context) {
	begun := time.Now()
	f.b.probe(begun, f.answer())
}

// look runs the probe until the test ends.
func (f *fakeServer) look(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	f.b.probing(true)
	go func() {
		defer close(done)
		everySecond(ctx, f.probe)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

func newFake() (*fakeServer, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return &fakeServer{b: newBreaker(zap.New(core)), takes: time.Millisecond}, logs
}

func logged(logs *observer.ObservedLogs) string {
	var all []string
	for _, e := range logs.TakeAll() {
		word := map[string]string{
			"the shared store is in reach": "up",
			"the shared store is out of reach; this relay goes on with what it knows itself": "down",
			"the shared store refuses what it is asked":                                      "refuses",
			"the shared store does again what it is asked":                                   "does",
			"the clocks of the shared store and of this relay differ":                        "differ",
			"the clocks of the shared store and of this relay agree again":                   "agree",
		}[e.Message]
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

func TestThreeFailuresOpenAndOneProbeCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, logs := newFake()
		f.look(t)
		time.Sleep(100 * time.Millisecond)
		if s := f.b.status(); !s.Up || s.Err != nil {
			t.Fatalf("status %+v", s)
		}
		f.set(errRefused, 250*time.Millisecond)
		begun := time.Now()
		for range maxFailures {
			if err := f.call(); !errors.Is(err, errRefused) || errors.Is(err, cache.ErrUnavailable) {
				t.Errorf("call: %v", err)
			}
		}
		if took := time.Since(begun); took != 750*time.Millisecond {
			t.Errorf("finding out took %s", took)
		}
		begun, f.asked = time.Now(), 0
		for range 10_000 {
			if err := f.call(); !errors.Is(err, cache.ErrUnavailable) || !errors.Is(err, errRefused) {
				t.Fatalf("call: %v", err)
			}
		}
		if time.Since(begun) != 0 || f.asked != 0 {
			t.Errorf("10,000 calls took %s and asked %d times", time.Since(begun), f.asked)
		}
		time.Sleep(time.Minute)
		if s := f.b.status(); s.Up || !errors.Is(s.Err, errRefused) || time.Since(s.Since) < time.Minute {
			t.Errorf("status %+v", s)
		}
		f.set(nil, time.Millisecond)
		time.Sleep(time.Second + time.Second/2)
		if err := f.call(); err != nil {
			t.Errorf("a call after the probe: %v", err)
		}
		if s := f.b.status(); !s.Up || s.Err != nil || time.Since(s.Since) > 2*time.Second {
			t.Errorf("status %+v", s)
		}
		if got := logged(logs); got != "up down up" {
			t.Errorf("logged %q", got)
		}
	})
}

func TestTheProbeAloneFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, logs := newFake()
		f.set(errRefused, time.Millisecond)
		f.look(t)
		time.Sleep((maxFailures - 1) * time.Second * 9 / 10)
		if err := f.b.allow(); err != nil {
			t.Errorf("open after less than %d failures: %v", maxFailures, err)
		}
		time.Sleep(time.Second)
		if err := f.b.allow(); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("closed after %d failures: %v", maxFailures, err)
		}
		if got := logged(logs); got != "down" {
			t.Errorf("logged %q", got)
		}
	})
}

func TestItNeverOpensWhileNobodyProbes(t *testing.T) {
	f, logs := newFake()
	f.set(errRefused, 0)
	for range 10 * maxFailures {
		if err := f.call(); errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	f.b.probing(true)
	f.probe(t.Context())
	f.b.probing(false)
	if err := f.b.allow(); err != nil {
		t.Errorf("open with nobody to close it: %v", err)
	}
	if got := logged(logs); got != "down" {
		t.Errorf("logged %q", got)
	}
}

func TestWhatCountsAsFailure(t *testing.T) {
	damaged := fmt.Errorf("%w: x", cache.ErrDamaged)
	tests := []struct {
		name string
		err  error
		want class
	}{
		{"success", nil, answered},
		{"no record", cache.ErrNotFound, answered},
		{"damaged", damaged, answered},
		{"refused connection", errRefused, outage},
		{"too late", context.DeadlineExceeded, outage},
		{"the caller gave up", givenUp(t.Context()), nothing},
		{"too many are asking", fmt.Errorf("x: %w", redis.ErrPoolTimeout), nothing},
		{"no such right", answerError("NOPERM this user has no permissions"), refusal},
		{"no memory", answerError("OOM command not allowed"), refusal},
		{"a replica", answerError("READONLY You can't write"), refusal},
		{"cannot write to its disk", answerError("MISCONF Redis is configured to save"), refusal},
		{"another type", answerError("WRONGTYPE Operation"), refusal},
		{"another node", answerError("MOVED 1 127.0.0.1:1"), refusal},
		{"still loading", answerError("LOADING Redis is loading"), outage},
		{"half a cluster", answerError("CLUSTERDOWN The cluster is down"), outage},
		{"cut off from its master", answerError("MASTERDOWN Link"), outage},
		{"no password", answerError("NOAUTH Authentication required."), outage},
		{"wrong password", fmt.Errorf("x: %w", answerError("WRONGPASS invalid")), outage},
		{"too many clients", answerError("ERR max number of clients reached"), outage},
		{"no number of a database in a cluster", answerError("ERR SELECT is not allowed in cluster mode"), outage},
		{"no right to a database", answerError("NOPERM User x has no permissions to run the 'select' command"), outage},
	}
	for _, tt := range tests {
		if got := classify(tt.err); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestSuccessBetweenFailuresKeepsItClosed(t *testing.T) {
	f, _ := newFake()
	f.b.probing(true)
	for i := range 100 {
		f.set([]error{errRefused, errRefused, cache.ErrNotFound}[i%3], 0)
		if err := f.call(); errors.Is(err, cache.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func TestRefusalsAreLoggedOnce(t *testing.T) {
	f, logs := newFake()
	f.b.probing(true)
	f.b.probe(time.Now(), nil)
	full := answerError("OOM x")
	for range 100 {
		f.b.done(opSave, time.Now(), full)
		f.b.done(opLoad, time.Now(), nil)
		f.b.probe(time.Now(), nil)
	}
	if s := f.b.status(); !s.Up || !errors.Is(s.Err, full) {
		t.Errorf("status %+v", s)
	}
	f.b.done(opSave, time.Now(), nil)
	if s := f.b.status(); !s.Up || s.Err != nil {
		t.Errorf("status %+v", s)
	}
	if got := logged(logs); got != "up refuses does" {
		t.Errorf("logged %q", got)
	}
}

// Clocks may differ by as much as a fetch may lie ahead.
func TestClocksThatDifferAreToldOnce(t *testing.T) {
	f, logs := newFake()
	f.b.probing(true)
	f.b.probe(time.Now(), nil)
	for _, off := range []time.Duration{0, maxAhead, -maxAhead, -maxAhead - time.Second, -time.Hour, -time.Hour} {
		f.b.clock(off)
	}
	if s := f.b.status(); !s.Up || s.Err == nil || !strings.Contains(s.Err.Error(), "1h0m0s behind that of this relay") {
		t.Errorf("status %+v", s)
	}
	f.b.clock(0)
	if s := f.b.status(); s.Err != nil {
		t.Errorf("status %+v", s)
	}
	if got := logged(logs); got != "up differ agree" {
		t.Errorf("logged %q", got)
	}
}

// In a burst, many calls wait for a connection until their time is over.
func TestFailuresBesideAnAnswerDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newFake()
		f.b.probing(true)
		f.b.probe(time.Now(), nil)
		begun := time.Now()
		time.Sleep(200 * time.Millisecond)
		f.b.done(opLoad, begun, nil)
		time.Sleep(50 * time.Millisecond)
		for range 1000 {
			f.b.done(opLoad, begun, context.DeadlineExceeded)
		}
		if err := f.b.allow(); err != nil {
			t.Errorf("a server that answers is out of reach: %v", err)
		}
		begun = time.Now()
		time.Sleep(250 * time.Millisecond)
		for range maxFailures {
			f.b.done(opLoad, begun, context.DeadlineExceeded)
		}
		if err := f.b.allow(); !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("a server that answers no more: %v", err)
		}
	})
}

// What flaps is told once a minute, and how it ends is told too.
func TestFlappingIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, logs := newFake()
		f.b.probing(true)
		full := answerError("OOM x")
		f.b.probe(time.Now(), nil)
		for range 299 { // five minutes
			f.b.done(opSave, time.Now(), full)
			f.b.done(opSave, time.Now(), nil)
			for range maxFailures {
				f.b.probe(time.Now(), errRefused)
			}
			f.b.probe(time.Now(), nil)
			time.Sleep(time.Second)
		}
		told := map[string]int{}
		for _, word := range strings.Fields(logged(logs)) {
			told[word]++
		}
		if want := map[string]int{"up": 6, "down": 5, "refuses": 5, "does": 5}; !maps.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		f.b.done(opSave, time.Now(), full)
		f.b.probe(time.Now(), errRefused)
		f.b.probe(time.Now(), errRefused)
		f.b.probe(time.Now(), errRefused)
		f.b.probe(time.Now(), nil)
		time.Sleep(2 * repeatAfter)
		f.b.probe(time.Now(), nil)
		if got := logged(logs); got != "refuses" {
			t.Errorf("logged %q", got)
		}
	})
}
