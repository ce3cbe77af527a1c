package cache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// aWeek is a policy as most are, of a domain whose other texts differ from it.
const aWeek = "enforce 168h mx.example.net"

func TestWhatOneRelayLearnedAnotherAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 0)
		defer a.stop()
		synctest.Wait()

		w.publish("a.example", site{noDNS: true})
		b, local := startIn(t, w, s)
		defer b.stop()
		b.want("a.example", policy.Secure, 0)
		if r := local.record(t, "a.example"); r.Text != aWeek || r.ID != "1" {
			t.Errorf("the store of its own holds %+v", r)
		}
		b.counts.want(t, "lookup "+OutcomeShared, 1)
		if n := w.count(w.fetches, "a.example"); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestAnAnswerFromTheSharedStoreIsDurableFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		s.forge(t, fetchedRecord(t, "a.example", "1", aWeek, time.Now().Add(-time.Hour)))
		b, local := startIn(t, w, s)
		defer b.stop()
		local.saveTakes = time.Second
		b.want("a.example", policy.Secure, time.Second)
		local.record(t, "a.example")
	})
}

func TestChangeReachesTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		var relays []*relay
		for range 3 {
			r, _ := startIn(t, w, s)
			defer r.stop()
			r.want("a.example", policy.Secure, 0)
			synctest.Wait()
			relays = append(relays, r)
		}
		if n := w.count(w.fetches, "a.example"); n != 1 {
			t.Fatalf("%d fetches by three relays, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		w.publish("a.example", site{id: "2", text: "enforce 168h mx2.example.net"})
		relays[0].ask("a.example") // still the old one; it has the record looked at
		time.Sleep(time.Second)
		for i, r := range relays {
			v := r.ask("a.example")
			if v.Kind != policy.Secure || v.Policy.MX[0].String() != "mx2.example.net" {
				t.Errorf("relay %d answers %s %v a second after the change", i, v.Kind, v.Policy)
			}
		}
		if n := w.count(w.fetches, "a.example"); n != 4 {
			t.Errorf("%d fetches, want one at first, and one by each relay of what changed", n)
		}
	})
}

// Without a message, a relay sees the change with its next look, even if the TXT
// record does not show it.
func TestChangeWithoutMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 0)
		defer a.stop()
		time.Sleep(time.Hour)
		s.set(func() { s.deaf = true })
		w.publish("a.example", site{noDNS: true, text: "enforce 168h mx2.example.net"})
		s.set(func() {
			r := fetchedRecord(t, "a.example", "2", "enforce 168h mx2.example.net", time.Now())
			s.records[r.Domain], _ = r.Encode()
		})
		a.ask("a.example")
		time.Sleep(time.Second)
		if v := a.ask("a.example"); v.Policy.MX[0].String() != "mx2.example.net" {
			t.Errorf("answered %v", v.Policy)
		}
	})
}

// A policy that was learned where this relay had found none.
func TestNewsOfADomainThatWasAbsent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{ttl: time.Hour})
		a, _ := startIn(t, w, s)
		defer a.stop()
		b, _ := startIn(t, w, s)
		defer b.stop()
		b.want("a.example", policy.NotFound, 0)
		w.publish("a.example", site{id: "1", text: aWeek})
		a.want("a.example", policy.Secure, 0)
		time.Sleep(time.Second)
		b.want("a.example", policy.Secure, 0)
		if n := w.count(w.fetches, "a.example"); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

// News that comes while the domain is being looked up, after the shared store was
// asked, is not lost with what that lookup learns.
func TestNewsDuringALookup(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{ttl: time.Hour})
		b, _ := startIn(t, w, s)
		defer b.stop()
		w.set(func() { w.lookTakes = 5 * time.Second })
		var asking sync.WaitGroup
		asking.Go(func() { b.want("a.example", policy.NotFound, 5*time.Second) })
		time.Sleep(time.Second)
		s.forge(t, fetchedRecord(t, "a.example", "1", aWeek, time.Now()))
		asking.Wait()
		time.Sleep(time.Second)
		b.want("a.example", policy.Secure, 0)
	})
}

// News of domains that nobody here asked for cost next to nothing.
func TestNewsOfUnknownDomains(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		a, local := startIn(t, w, s)
		defer a.stop()
		for i := range 1000 {
			s.forge(t, fetchedRecord(t, fmt.Sprintf("d%d.example", i), "1", aWeek, time.Now()))
		}
		time.Sleep(10 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := len(w.looks) + len(w.fetches) + len(local.records); n != 0 {
			t.Errorf("%d looks, fetches and records", n)
		}
	})
}

// Three relays make one fetch per policy and period.
func TestRefreshOfAFleet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.spread = rand.Float64
		w.fetchTakes = 200 * time.Millisecond
		s := newFleet()
		const domains, hours = 50, 10
		var relays []*relay
		for range 3 {
			r, _ := startIn(t, w, s)
			defer r.stop()
			relays = append(relays, r)
		}
		name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
		for i := range domains {
			w.publish(name(i), site{id: "1", text: "enforce 2h mx.example.net"})
			for _, r := range relays {
				if v := r.ask(name(i)); v.Kind != policy.Secure {
					t.Fatalf("%s: %s", name(i), v.Kind)
				}
				synctest.Wait()
			}
			time.Sleep(time.Second)
		}
		time.Sleep(hours * time.Hour)
		n := 0
		for i := range domains {
			n += w.count(w.fetches, name(i))
		}
		// A refresh comes up to a tenth early.
		if most := 1.1 * domains * (1 + hours/0.9); float64(n) > most || n < domains*hours {
			t.Errorf("%d fetches of %d policies in %d hours, want at most %.0f", n, domains, hours, most)
		}
		relays[0].counts.mu.Lock()
		defer relays[0].counts.mu.Unlock()
		if relays[0].counts.n["refresh "+RefreshShared] == 0 {
			t.Error("no refresh was left to another relay")
		}
	})
}

// A refresh that another relay made is not made up for again and again while the
// store of one's own refuses it.
func TestRefreshByAnotherThatCannotBeStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, local := learned(t, w, 0)
		defer a.stop()
		refresh := local.record(t, "a.example").Refresh
		time.Sleep(time.Until(refresh) - time.Minute)
		s.forge(t, fetchedRecord(t, "a.example", "1", aWeek, time.Now()))
		local.set(func() { local.saveErr = errors.New("no space") })
		time.Sleep(10 * time.Minute)
		a.counts.want(t, "refresh "+RefreshShared, 1)
		if n := w.count(w.fetches, "a.example"); n != 1 {
			t.Errorf("%d fetches, want the first only", n)
		}
	})
}

func TestSharedStoreDown(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
	}{{"out of reach", fmt.Errorf("%w: refused", ErrUnavailable)}, {"full", errors.New("OOM")}, {"damaged", ErrDamaged}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := newFleet()
				s.err = tt.err
				w.publish("a.example", site{id: "1", text: aWeek})
				a, _ := startIn(t, w, s)
				defer a.stop()
				a.want("a.example", policy.Secure, 0)
				a.want("none.example", policy.NotFound, 0)
				time.Sleep(3 * time.Hour)
				a.want("a.example", policy.Secure, 0)
				if s.holds(t, "a.example") {
					t.Fatal("a store that is down took a record")
				}
				s.set(func() { s.err = nil })
				time.Sleep(2 * time.Second)
				if !s.holds(t, "a.example") {
					t.Error("what was fetched meanwhile was not saved when the store was back")
				}
				if n := a.Entries().Unshared; n != 0 {
					t.Errorf("%d policies still wait", n)
				}
			})
		})
	}
}

// A slow shared store costs a first question its time, and others nothing.
func TestSharedStoreSlow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		s.takes = 250 * time.Millisecond
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 250*time.Millisecond)
		for range 100 {
			a.want("a.example", policy.Secure, 0)
			time.Sleep(10 * time.Second)
		}
	})
}
