package cache

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// hosts makes a DANE fact with one host of each state, in the order of their
// preference.
func hosts(states ...policy.HostState) policy.DANE {
	d := policy.DANE{MX: policy.MXSecure}
	for i, s := range states {
		d.Hosts = append(d.Hosts, policy.MXHost{Name: "mx.example.com", Preference: uint16(i), State: s})
	}
	return d
}

func TestDANEIsLookedUpOnlyWhereTheVerdictDependsOnIt(t *testing.T) {
	tests := []struct {
		name  string
		text  string
		class policy.Class
		want  policy.Kind
		danes int
	}{
		{"enforce, STS only", enforce, policy.ClassSTSOnly, policy.Secure, 0},
		{"enforce, STS", enforce, policy.ClassSTS, policy.DANEOnly, 1},
		{"enforce, DANE", enforce, policy.ClassDANE, policy.DANEOnly, 1},
		{"none, STS", "none 24h", policy.ClassSTS, policy.NotFound, 1}, // beside the fetch
		{"nothing, STS only", "", policy.ClassSTSOnly, policy.NotFound, 0},
		{"nothing, STS", "", policy.ClassSTS, policy.NotFound, 0},
		{"nothing, DANE", "", policy.ClassDANE, policy.DANEOnly, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := site{text: test.text, dane: hosts(policy.HostUsable)}
				if test.text != "" {
					s.id = "1"
				}
				w.publish("example.com", s)
				w.fetchTakes = time.Second
				r := start(t, w, Options{})
				defer r.stop()
				var took time.Duration
				if s.id != "" {
					took = time.Second
				}
				r.wantAs("example.com", test.class, test.want, took)
				r.wantAs("example.com", test.class, test.want, 0)
				synctest.Wait()
				if n := w.count(w.danes, "example.com"); n != test.danes {
					t.Errorf("%d DANE lookups, want %d", n, test.danes)
				}
			})
		})
	}
}

func TestTestingPolicyInForceNeverWaitsForDANE(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: "testing 24h mx.example.com"})
		w.fetchTakes, w.daneTakes = time.Second, 8*time.Second
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.NotFound, time.Second)
		r.wantAs("example.com", policy.ClassSTS, policy.NotFound, 0)
	})
}

func TestDANERunsBesideTheFetch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostPlain)})
		w.lookTakes, w.fetchTakes, w.daneTakes = time.Second, 3*time.Second, 4*time.Second
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 5*time.Second)
	})
}

func TestUnknownDANEDefersOnlyWhatIsEnforced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.publish("testing.example", site{id: "1", text: "testing 24h mx.example.com"})
		w.daneTakes = 30 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		wg.Go(func() { r.wantAs("example.com", policy.ClassSTS, policy.Temp, 10*time.Second) })
		wg.Go(func() { r.wantAs("testing.example", policy.ClassDANE, policy.DANEWhereFound, 10*time.Second) })
		wg.Wait()
		r.wantAs("example.com", policy.ClassSTS, policy.Temp, 0)
		r.wantAs("example.com", policy.ClassSTSOnly, policy.Secure, 0)
	})
}

func TestDANEFactIsRenewedInItsLastQuarter(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostPlain), daneIn: 40 * time.Second})
		w.daneTakes = 2 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 2*time.Second)
		for range 400 {
			r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
			time.Sleep(time.Second)
		}
		if n := w.count(w.danes, "example.com"); n < 11 || n > 14 {
			t.Errorf("%d lookups in 400 s, want about 12", n)
		}
	})
}

func TestDANEExpiredAndNotRenewableDefers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := site{id: "1", text: enforce, dane: hosts(policy.HostPlain), daneIn: 40 * time.Second}
		w.publish("example.com", s)
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
		broken := s
		broken.dane = policy.DANE{}
		w.publish("example.com", broken)
		for range 39 {
			time.Sleep(time.Second)
			r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
		}
		if n := w.count(w.danes, "example.com"); n > 12 {
			t.Errorf("%d lookups while the renewal fails, want one a second at most", n)
		}
		time.Sleep(time.Second)
		r.wantAs("example.com", policy.ClassSTS, policy.Temp, 0)
		w.publish("example.com", s)
		time.Sleep(time.Second)
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0) // a failure is not kept
	})
}

// slowToTell is a network that is slow to hand over what it has learned of DANE.
type slowToTell struct{ *world }

func (s slowToTell) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	fact := s.world.DANE(ctx, hop, prev)
	time.Sleep(2 * time.Second)
	return fact
}

func TestDANEFactThatEndsAtOnceCountsForAllWhoWaitedForIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostUsable), daneIn: time.Nanosecond})
		r := start(t, w, Options{})
		defer r.stop()
		r.resolver = slowToTell{w}
		var wg sync.WaitGroup
		wg.Go(func() { r.wantAs("example.com", policy.ClassSTS, policy.DANEOnly, 2*time.Second) })
		time.Sleep(time.Second)
		r.wantAs("example.com", policy.ClassSTS, policy.DANEOnly, time.Second)
		wg.Wait()
	})
}

func TestRecheckGoesOnWhileDANEIsAlwaysStale(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := site{id: "1", text: enforce, dane: hosts(policy.HostPlain), daneIn: time.Nanosecond}
		w.publish("example.com", s)
		w.daneTakes = 10 * time.Millisecond
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 10*time.Millisecond)
		s.id, s.text = "2", "none 24h"
		w.publish("example.com", s)
		time.Sleep(time.Minute)
		r.askAs("example.com", policy.ClassSTS)
		synctest.Wait()
		r.wantAs("example.com", policy.ClassSTS, policy.NotFound, 0)
	})
}

func TestOnlyTheLatestNextHopsOfADomainAreKept(t *testing.T) {
	now := time.Now()
	var e *entry
	for port := range uint16(20) {
		e = e.withHop(now, policy.NextHop{Port: port}, policy.DANE{Learned: now, Expires: now.Add(time.Hour)})
		e = e.withHop(now, policy.NextHop{Port: port}, policy.DANE{Learned: now, Expires: now.Add(time.Hour)})
	}
	if len(e.hops) != maxHops || e.hop(policy.NextHop{Port: 11}) != nil || e.hop(policy.NextHop{Port: 12}) == nil {
		t.Errorf("kept %d next-hops: %v", len(e.hops), e.hops)
	}
}
