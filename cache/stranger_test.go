package cache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// fetchesOfTwo returns how often two relays fetch a policy in six hours in which
// each is shown a site of its own, and what the first answers then.
func fetchesOfTwo(t *testing.T, w *world, here, there site) (n int, v policy.Verdict) {
	t.Helper()
	s, w2 := newFleet(), newWorld()
	w.publish("a.example", here)
	w2.publish("a.example", there)
	a, _ := startIn(t, w, s)
	defer a.stop()
	b, _ := startIn(t, w2, s)
	defer b.stop()
	for range 720 {
		a.ask("a.example")
		time.Sleep(5 * time.Second)
		b.ask("a.example")
		time.Sleep(30 * time.Second)
	}
	return w.count(w.fetches, "a.example") + w2.count(w2.fetches, "a.example"), a.ask("a.example")
}

// Two relays that are shown different ids of one policy do not drive each other.
func TestTwoIDsOfOnePolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n, _ := fetchesOfTwo(t, w, site{id: "1", text: aWeek}, site{id: "2", text: aWeek})
		if n > 4 {
			t.Errorf("%d fetches in six hours of a policy that never changes", n)
		}
	})
}

// A policy host that says one thing here and another there is asked less and
// less often for that.
func TestTwoTextsOfOnePolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		n, v := fetchesOfTwo(t, w, site{id: "1", text: aWeek}, site{id: "1", text: "enforce 168h mx2.example.net"})
		if n > 24 {
			t.Errorf("%d fetches in six hours", n)
		}
		if v.Policy.MX[0].String() != "mx.example.net" {
			t.Errorf("a relay applies a policy that it did not fetch: %v", v.Policy)
		}
	})
}

// Messages about domains without a policy have nothing stored.
func TestNewsFillsNoStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		a, local := startIn(t, w, s)
		defer a.stop()
		name := func(i int) string { return fmt.Sprintf("d%d.example", i) }
		for i := range 200 {
			w.publish(name(i), site{ttl: time.Hour})
			a.want(name(i), policy.NotFound, 0)
		}
		for i := range 200 {
			s.forge(t, fetchedRecord(t, name(i), "1", "enforce 8760h mx.evil.example", time.Now()))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		local.mu.Lock()
		defer local.mu.Unlock()
		if n := len(local.records); n != 0 {
			t.Errorf("%d records of domains that nobody asked for", n)
		}
	})
}

// A record from a clock that is ahead is not taken over again and again, also
// not of a policy that is over so soon that looks take it over.
func TestRecordThatIsAlwaysLater(t *testing.T) {
	for _, text := range []string{aWeek, "enforce 5m mx.example.net"} {
		t.Run(text, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := newFleet()
				a, local := startIn(t, w, s)
				defer a.stop()
				w.publish("a.example", site{id: "1", text: text, ttl: time.Hour})
				a.want("a.example", policy.Secure, 0)
				time.Sleep(2 * time.Minute)
				local.mu.Lock()
				before := local.saves
				local.mu.Unlock()
				for range 1000 {
					s.forge(t, fetchedRecord(t, "a.example", "1", text, time.Now().Add(4*time.Minute)))
					time.Sleep(10 * time.Millisecond)
				}
				synctest.Wait()
				local.mu.Lock()
				defer local.mu.Unlock()
				if n := local.saves - before; n > 2 {
					t.Errorf("%d writes within ten seconds", n)
				}
			})
		})
	}
}

// Policy hosts that hang hold up no news of other domains.
func TestNewsBesideSlowHosts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		b, _ := startIn(t, w, s)
		defer b.stop()
		name := func(i int) string { return fmt.Sprintf("slow%d.example", i) }
		for i := range 2 * maxNews {
			w.publish(name(i), site{id: "1", text: aWeek, ttl: time.Hour})
			b.want(name(i), policy.Secure, 0)
		}
		w.publish("a.example", site{id: "1", text: aWeek, ttl: time.Hour})
		b.want("a.example", policy.Secure, 0)
		time.Sleep(10 * time.Minute)
		w.set(func() { w.fetchTakes = 59 * time.Second })
		for i := range 2 * maxNews {
			s.forge(t, fetchedRecord(t, name(i), "2", "enforce 200h mx.example.net", time.Now()))
		}
		time.Sleep(5 * time.Second)
		w.set(func() { w.fetchTakes = 0 })
		changed := site{id: "2", text: "enforce 168h mx2.example.net"}
		w.publish("a.example", changed)
		s.forge(t, fetchedRecord(t, "a.example", changed.id, changed.text, time.Now()))
		time.Sleep(2 * time.Second)
		if v := b.ask("a.example"); v.Policy.MX[0].String() != "mx2.example.net" {
			t.Errorf("answered %v", v.Policy)
		}
	})
}
