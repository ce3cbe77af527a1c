package cache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// enforce lives for two hours, and is refreshed after one.
const enforce = "enforce 2h mx.example.com"

func TestManyAskersOfAColdDomainCostOneLookAndOneFetch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: policy.DANE{MX: policy.MXInsecure}})
		w.lookTakes, w.fetchTakes = time.Second, 2*time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				hop := policy.NextHop{Domain: dom(t, "Example.COM."), Port: uint16(25 + i%3)}
				class := policy.ClassSTSOnly + policy.Class(i/3%3)
				if v := r.Lookup(t.Context(), time.Now(), hop, class); v.Kind != policy.Secure {
					t.Errorf("%v at class %d: got %s", hop, class, v.Kind)
				}
			})
		}
		wg.Wait()
		if l, f := w.count(w.looks, "example.com"), w.count(w.fetches, "example.com"); l != 1 || f != 1 {
			t.Errorf("%d looks and %d fetches, want 1 and 1", l, f)
		}
		for _, hop := range []string{"example.com", "example.com:26", "example.com:27"} {
			if n := w.count(w.danes, hop); n != 1 {
				t.Errorf("%d DANE lookups of %s, want 1", n, hop)
			}
		}
		// One began the look, one of each next-hop its DANE lookup.
		if n := r.counts.n["lookup resolved"]; n < 3 || n > 4 || n+r.counts.n["lookup flight"] != 500 {
			t.Errorf("counted %v", r.counts.n)
		}
		r.want("example.com", policy.Secure, 0)
		r.counts.want(t, "lookup memory", 1)
	})
}

func TestAskersGoAtTheDeadlineAndTheFetchGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = 20 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		wg.Go(func() { r.want("example.com", policy.NotFound, 10*time.Second) })
		time.Sleep(4 * time.Second)
		wg.Go(func() { r.want("example.com", policy.NotFound, 6*time.Second) })
		wg.Wait()
		time.Sleep(time.Second)
		r.want("example.com", policy.NotFound, 0) // overdue: answered at once
		time.Sleep(9 * time.Second)
		synctest.Wait()
		r.want("example.com", policy.Secure, 0)
		if n := w.count(w.fetches, "example.com"); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestAskerWhoseContextEndsIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = 5 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		asked := time.Now()
		v := r.Lookup(ctx, time.Now(), policy.NextHop{Domain: dom(t, "example.com"), Port: 25}, policy.ClassSTSOnly)
		if v.Kind != policy.NotFound || time.Since(asked) != time.Second {
			t.Errorf("got %s after %s, want notfound after 1s", v.Kind, time.Since(asked))
		}
		time.Sleep(5 * time.Second)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestPolicyInForceAnswersAtOnceWhateverTheNetworkDoes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{id: "2"})
		w.set(func() { w.lookTakes, w.fetchTakes = 6*time.Second, 60*time.Second })
		for range 600 {
			r.want("example.com", policy.Secure, 0)
			time.Sleep(time.Second)
		}
		if n := w.count(w.looks, "example.com"); n > 11 {
			t.Errorf("%d looks in 10 minutes, want one a minute at most", n)
		}
		if n := w.count(w.fetches, "example.com"); n > 3 {
			t.Errorf("%d fetches in 10 minutes, want one per 5 minutes and id", n)
		}
	})
}

func TestChangedIDIsSeenByTheFirstQueryAndAnsweredFromTheNext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{id: "2", text: "enforce 2h mx2.example.com"})
		time.Sleep(59 * time.Second)
		r.want("example.com", policy.Secure, 0)
		synctest.Wait()
		if v := r.ask("example.com"); v.Policy.Text != enforce {
			t.Errorf("before the recheck: got %q", v.Policy.Text)
		}
		time.Sleep(time.Second)
		if v := r.ask("example.com"); v.Policy.Text != enforce {
			t.Errorf("the query that looks: got %q, want the old policy", v.Policy.Text)
		}
		synctest.Wait()
		if v := r.ask("example.com"); v.Policy.Text != "enforce 2h mx2.example.com" {
			t.Errorf("the query after that: got %q, want the new policy", v.Policy.Text)
		}
		if got := w.record(t, "example.com").ID; got != "2" {
			t.Errorf("the store holds id %q, want 2", got)
		}
		r.counts.want(t, "change changed", 1)
	})
}

func TestWeakerPolicyReplacesAtOnce(t *testing.T) {
	for _, text := range []string{"none 2h", "testing 2h mx.example.com"} {
		t.Run(text, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.publish("example.com", site{id: "1", text: enforce})
				r := start(t, w, Options{})
				defer r.stop()
				r.want("example.com", policy.Secure, 0)
				w.publish("example.com", site{id: "2", text: text})
				time.Sleep(time.Minute)
				r.want("example.com", policy.Secure, 0)
				synctest.Wait()
				r.want("example.com", policy.NotFound, 0)
				if got := w.record(t, "example.com").Text; got != text {
					t.Errorf("the store holds %q", got)
				}
			})
		})
	}
}

func TestPolicyExpiresToTheSecond(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: "enforce 5m mx.example.com"})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{})
		time.Sleep(5*time.Minute - time.Second)
		r.want("example.com", policy.Secure, 0)
		asked := time.Now()
		time.Sleep(time.Second)
		hop := policy.NextHop{Domain: dom(t, "example.com"), Port: 25}
		if v := r.Lookup(t.Context(), asked, hop, policy.ClassSTSOnly); v.Kind != policy.Secure {
			t.Errorf("a question that was asked before the end: got %s, want %s", v.Kind, policy.Secure)
		}
		r.want("example.com", policy.NotFound, 0)
	})
}

func TestNoGapAtExpiry(t *testing.T) {
	// The policy lives too short to be refreshed: the first query after its
	// end looks and fetches at once, and waits for both.
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: "enforce 5m mx.example.com"})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Minute)
		w.set(func() { w.fetchTakes = 3 * time.Second })
		r.want("example.com", policy.Secure, 3*time.Second)
	})
}

func TestMaxAgeZeroCountsForThoseWhoWaited(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: "enforce 0s mx.example.com"})
		w.fetchTakes, w.saveTakes = time.Second, time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		wg.Go(func() { r.want("example.com", policy.Secure, 2*time.Second) })
		wg.Go(func() {
			// Comes after the fetch, while its policy is being stored.
			time.Sleep(1500 * time.Millisecond)
			r.want("example.com", policy.Secure, 500*time.Millisecond)
		})
		wg.Wait()
		time.Sleep(time.Second)
		r.want("example.com", policy.NotFound, 0)
		if n := w.count(w.fetches, "example.com"); n != 1 {
			t.Errorf("%d fetches within a minute, want 1", n)
		}
		time.Sleep(time.Minute)
		r.want("example.com", policy.Secure, 2*time.Second)
	})
}

func TestAbsenceIsRenewedBeforeItEndsAndNobodyWaits(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{ttl: 100 * time.Second})
		w.lookTakes = 2 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 2*time.Second)
		for range 1000 {
			r.want("example.com", policy.NotFound, 0)
			time.Sleep(time.Second)
		}
		// Each look is good for 77 s: three quarters of the TTL and its own
		// two seconds.
		if n := w.count(w.looks, "example.com"); n < 12 || n > 15 {
			t.Errorf("%d looks in 1000 s, want about 13", n)
		}
		time.Sleep(110 * time.Second)
		r.want("example.com", policy.NotFound, 2*time.Second)
	})
}

func TestFailedLookIsAbsentForAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{noDNS: true})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
		w.publish("example.com", site{id: "1", text: enforce})
		time.Sleep(44 * time.Second)
		r.want("example.com", policy.NotFound, 0)
		time.Sleep(16 * time.Second)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestFailedFetchIsRememberedAndNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1"})
		r := start(t, w, Options{})
		for range 290 {
			r.want("example.com", policy.NotFound, 0)
			time.Sleep(time.Second)
		}
		r.stop()
		r = start(t, w, Options{}) // and across a restart
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
		if n := w.count(w.fetches, "example.com"); n != 1 {
			t.Errorf("%d fetches in 290 s, want 1", n)
		}
		time.Sleep(5 * time.Minute)
		r.want("example.com", policy.NotFound, 0)
		if n := w.count(w.fetches, "example.com"); n != 2 {
			t.Errorf("%d fetches after 5 more minutes, want 2", n)
		}
	})
}

func TestFullPoolOfFirstFetches(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fetchTakes = 40 * time.Second
		for i := range 4 {
			w.publish(fmt.Sprintf("d%d.example", i), site{id: "1", text: enforce})
		}
		r := start(t, w, Options{FirstFetches: 3})
		defer r.stop()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() { r.want(fmt.Sprintf("d%d.example", i), policy.NotFound, 10*time.Second) })
		}
		wg.Wait()
		if w.top != 3 {
			t.Errorf("%d fetches at a time, want 3", w.top)
		}
		time.Sleep(31 * time.Second)
		secure, again := 0, 0
		for i := range 4 {
			if v := r.ask(fmt.Sprintf("d%d.example", i)); v.Kind == policy.Secure {
				secure++
			} else {
				again++ // not remembered as absent: it was asked for anew
			}
		}
		if secure != 3 || again != 1 {
			t.Errorf("%d secure and %d not, want 3 and 1", secure, again)
		}
	})
}

func TestFullPoolOfLookups(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-30*time.Minute)))
		w.lookTakes = time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		for i := range maxLookups {
			wg.Go(func() { r.want(fmt.Sprintf("d%d.example", i), policy.NotFound, 10*time.Second) })
		}
		time.Sleep(time.Second)
		// What is stored applies at once; where nothing is, nothing is known.
		r.want("example.com", policy.Secure, 0)
		r.want("none.example", policy.NotFound, 10*time.Second)
		wg.Wait()
	})
}

func TestStoreIsNotAskedForManyRecordsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.loadTakes = time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		for i := range 3 * maxLoads {
			wg.Go(func() {
				r.want(fmt.Sprintf("d%d.example", i), policy.NotFound, time.Duration(1+i/maxLoads)*time.Second)
			})
			synctest.Wait()
		}
		wg.Wait()
	})
}

func TestCloseCutsFlightsShortAndRemembersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes, w.daneTakes = time.Hour, time.Hour
		r := start(t, w, Options{})
		go r.askAs("example.com", policy.ClassDANE)
		time.Sleep(time.Second)
		r.stop()
		if len(w.records) != 0 || r.Entries().Policies != 0 {
			t.Errorf("remembered %d records and %+v", len(w.records), r.Entries())
		}
		r.want("example.com", policy.Temp, 0) // not known, and nobody can look
		if err := r.Close(t.Context()); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := start(t, w, Options{})
		stubborn := make(chan struct{})
		r.resolver = stubbornResolver{w, stubborn}
		go r.ask("example.com")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Close(ctx); err == nil {
			t.Error("Close did not wait for a flight")
		}
		close(stubborn)
		r.stop()
	})
}

// stubbornResolver does not heed its context.
type stubbornResolver struct {
	*world
	done chan struct{}
}

func (s stubbornResolver) Look(_ context.Context, _ policy.Domain, prev policy.STS) policy.STS {
	<-s.done
	return prev
}

func TestAFloodOfSlowDomainsHidesNoChangeOfAPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Minute)
		w.set(func() { w.lookTakes = 6 * time.Second })
		var flood sync.WaitGroup
		defer flood.Wait()
		for i := range maxLookups/2 + 1 {
			flood.Go(func() { r.ask(fmt.Sprintf("slow%d.example", i)) })
		}
		synctest.Wait()
		w.set(func() { w.lookTakes = 0 })
		w.publish("example.com", site{id: "2", text: "enforce 2h mx2.example.com"})
		r.want("example.com", policy.Secure, 0)
		synctest.Wait()
		if v := r.ask("example.com"); v.Policy.Text != "enforce 2h mx2.example.com" {
			t.Errorf("got %q, want the new policy", v.Policy.Text)
		}
	})
}
