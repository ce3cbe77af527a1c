package cache

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

func TestPolicyIsRefreshedWithoutAnyoneAsking(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		// The TXT record goes, and the policy changes under the same id.
		w.publish("example.com", site{text: "enforce 2h mx2.example.com"})
		time.Sleep(10 * time.Hour)
		if n := w.count(w.fetches, "example.com"); n < 10 || n > 11 {
			t.Errorf("%d fetches in 10 hours, want one an hour", n)
		}
		if v := r.ask("example.com"); v.Kind != policy.Secure || v.Policy.Text != "enforce 2h mx2.example.com" {
			t.Errorf("after 10 hours: got %s", v.Kind)
		}
		r.counts.want(t, "change new", 1)
		r.counts.want(t, "change changed", 1)
	})
}

func TestRefreshIsNotBegunBeforeItIsDue(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		time.Sleep(700 * time.Millisecond) // records know whole seconds only
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(100 * time.Millisecond)
		r.want("example.com", policy.Secure, 0)
		time.Sleep(10 * time.Hour)
		r.counts.want(t, "refresh skipped", 0)
		if n := w.count(w.fetches, "example.com"); w.saves != n {
			t.Errorf("%d saves of %d fetches, want one each", w.saves, n)
		}
	})
}

func TestRefreshPutsNothingIntoMemory(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		w.publish("example.com", site{text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(150 * time.Minute)
		r.counts.want(t, "refresh ok", 2)
		if n := r.Entries(); n.Policies != 0 {
			t.Errorf("%d policies in memory, want 0", n.Policies)
		}
		r.want("example.com", policy.Secure, 0)
	})
}

func TestFailingRefreshBacksOffAndLowersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{id: "1"})
		time.Sleep(2*time.Hour - time.Second)
		r.want("example.com", policy.Secure, 0)
		// After 60, 65, 75, 95 minutes; the next would be after 135.
		r.counts.want(t, "refresh failed", 4)
		if n := r.Entries().Expiring; n != 1 {
			t.Errorf("%d policies about to expire, want 1", n)
		}
		w.publish("example.com", site{id: "1", text: enforce})
		w.set(func() { w.fetchTakes = 2 * time.Second })
		time.Sleep(time.Second)
		r.want("example.com", policy.Secure, 2*time.Second) // no gap
		synctest.Wait()
		if n := r.Entries().Expiring; n != 0 {
			t.Errorf("%d policies about to expire, want 0", n)
		}
	})
}

func TestRefreshThatHangsBeyondExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.set(func() { w.fetchTakes = 70 * time.Minute })
		time.Sleep(2*time.Hour - time.Second)
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Second)
		// Who asks now waits for the refresh, as long as for any flight.
		r.want("example.com", policy.NotFound, 10*time.Second)
		r.want("example.com", policy.NotFound, 0)
		time.Sleep(10 * time.Minute)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestRefreshThatHangsWithholdsNothingThatIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "enforce.example", enforce, time.Now().Add(-90*time.Minute)))
		w.keep(t, stored(t, "testing.example", "testing 2h mx.example.com", time.Now().Add(-90*time.Minute)))
		w.fetchTakes = time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(1500 * time.Millisecond)
		for range 2 {
			r.want("enforce.example", policy.Secure, 0)
			r.want("testing.example", policy.NotFound, 0)
		}
		if n := w.count(w.fetches, "enforce.example"); n != 1 {
			t.Errorf("%d fetches, want that of the refresh only", n)
		}
	})
}

func TestQuestionThatWaitedForAFailedRefreshLooksForItself(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-time.Hour)))
		w.lookTakes, w.fetchTakes = 2*time.Second, 61*time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		// The refresh begins after a second. The policy ends in an hour, and
		// the refresh fails a minute and a second after that.
		time.Sleep(61*time.Minute - 2*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { r.want("example.com", policy.Secure, 5*time.Second) })
		time.Sleep(time.Second)
		w.set(func() { w.fetchTakes = 0 })
		time.Sleep(3 * time.Second)
		r.counts.want(t, "refresh failed", 1)
		w.publish("example.com", site{id: "2", text: enforce})
		wg.Wait()
	})
}

func TestRefreshIsDueByTheClockThatSaysSoFirst(t *testing.T) {
	c, start := &Cache{idle: 720 * time.Hour}, time.Now()
	sts := policy.STS{Policy: &policy.STSPolicy{Mode: policy.ModeEnforce, MaxAge: 48 * time.Hour}, Fetched: start, Refresh: start.Add(time.Hour)}
	for _, test := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"not yet", start.Add(59 * time.Minute), false},
		{"due", start.Add(time.Hour), true},
		{"after a sleep of the machine", jumped(start.Add(time.Minute), time.Hour), true},
		{"after the clock was set back", jumped(start.Add(time.Hour), -24*time.Hour), true},
	} {
		u := &use{}
		u.last.Store(test.now.Unix())
		if got := c.isDue(test.now, &sts, u); got != test.want {
			t.Errorf("%s: due %v, want %v", test.name, got, test.want)
		}
	}
}

func TestNobodyWaitsTwice(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{id: "1"})
		w.set(func() { w.fetchTakes, w.lookTakes = 60*time.Minute+8*time.Second, time.Hour })
		time.Sleep(2 * time.Hour)
		// The policy is over. The refresh, which began after an hour, fails 8 s
		// from now, and then the look hangs.
		r.want("example.com", policy.NotFound, 10*time.Second)
		r.counts.want(t, "refresh failed", 1)
		if n := w.count(w.looks, "example.com"); n != 2 {
			t.Errorf("%d looks, want 2", n)
		}
	})
}

func TestIdleDomainsAreNotRefreshed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: "enforce 8h mx.example.com"})
		r := start(t, w, Options{Idle: 5 * time.Hour})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(11 * time.Hour) // refreshed after 4 hours, idle after 8
		r.counts.want(t, "refresh ok", 1)
		r.counts.want(t, "refresh skipped", 1)
		if got := w.record(t, "example.com"); !got.Refresh.IsZero() {
			t.Errorf("an idle domain is due at %s", got.Refresh)
		}
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		r.counts.want(t, "refresh ok", 2)
		time.Sleep(time.Hour)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestLastUseIsWrittenOnceADayAndHitsWriteNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		old := time.Now().Add(-25 * time.Hour)
		rec := stored(t, "example.com", "enforce 720h mx.example.com", old)
		rec.Refresh = time.Now().Add(100 * time.Hour)
		w.keep(t, rec)
		w.publish("example.com", site{id: "1", text: "enforce 720h mx.example.com"})
		r := start(t, w, Options{})
		defer r.stop()
		begun := time.Now()
		for range 1000 {
			r.want("example.com", policy.Secure, 0)
			time.Sleep(time.Second)
		}
		if w.saves != 1 {
			t.Errorf("%d saves, want 1", w.saves)
		}
		if got := w.record(t, "example.com").LastUse; !got.Equal(begun) {
			t.Errorf("last use is %s, want %s", got, begun)
		}
	})
}

func TestUseInForceWithoutARefreshToComeIsNotIdle(t *testing.T) {
	// In its last five minutes, a policy whose refresh failed has none to
	// come. A question must not start another: it would fail at once, again and again.
	bubble(t, func(t *testing.T, w *world) {
		rec := stored(t, "example.com", enforce, time.Now().Add(-116*time.Minute))
		rec.Refresh = time.Time{}
		rec.Failure = policy.Failure{ID: "1", At: time.Now().Add(-time.Minute), Count: 3, Kind: "status", Reason: "HTTP status 404"}
		w.keep(t, rec)
		w.publish("example.com", site{id: "1"})
		r := start(t, w, Options{})
		defer r.stop()
		for range 100 {
			r.want("example.com", policy.Secure, 0)
			time.Sleep(time.Second)
		}
		if n := w.count(w.fetches, "example.com"); n != 0 {
			t.Errorf("%d fetches, want 0", n)
		}
	})
}

func TestOverdueRefreshesAreSpreadMostUrgentFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const n = 120
		for i := range n {
			name := fmt.Sprintf("d%d.example", i)
			rec := stored(t, name, enforce, time.Now().Add(-90*time.Minute))
			rec.Refresh = time.Now().Add(-time.Duration(i) * time.Second)
			w.keep(t, rec)
			w.publish(name, site{text: enforce})
		}
		w.fetchTakes = 2 * time.Second
		r := start(t, w, Options{Refreshes: 8})
		defer r.stop()
		time.Sleep(1500 * time.Millisecond)
		if w.count(w.fetches, "d119.example") != 1 || w.count(w.fetches, "d0.example") != 0 {
			t.Error("the one that has waited longest was not the first")
		}
		if got := r.Entries().Overdue; got != n-8 {
			t.Errorf("%d overdue, want %d", got, n-8)
		}
		time.Sleep(time.Minute)
		r.counts.want(t, "refresh ok", n)
		if w.top != 8 {
			t.Errorf("%d refreshes at a time, want 8", w.top)
		}
		for i := 1; i < len(w.fetchedAt); i++ {
			if gap := w.fetchedAt[i].Sub(w.fetchedAt[i-1]); gap < pace {
				t.Fatalf("two starts within %s", gap)
			}
		}
	})
}

func TestWhatIsDueAndCannotBeRefreshed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "expired.example", enforce, time.Now().Add(-3*time.Hour)))
		w.keep(t, stored(t, "damaged.example", enforce, time.Now().Add(-90*time.Minute)))
		w.loadErr["damaged.example"] = ErrDamaged
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(30 * time.Minute)
		if got := w.record(t, "expired.example"); !got.Refresh.IsZero() || got.Text != enforce {
			t.Errorf("the expired record is now %+v", got)
		}
		if n := w.count(w.loads, "damaged.example"); n != 1 {
			t.Errorf("the damaged record was loaded %d times in half an hour, want 1", n)
		}
		for _, name := range []string{"expired.example", "damaged.example"} {
			if n := w.count(w.fetches, name); n != 0 {
				t.Errorf("%s was fetched", name)
			}
		}
	})
}

func TestRefreshGoesOnWhileTheStoreRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for i := range 40 {
			name := fmt.Sprintf("d%d.example", i)
			w.keep(t, stored(t, name, enforce, time.Now().Add(-90*time.Minute)))
			w.publish(name, site{id: "1", text: enforce})
		}
		w.saveErr = errors.New("read-only file system")
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(40 * time.Minute)
		for i := range 40 {
			if n := w.count(w.fetches, fmt.Sprintf("d%d.example", i)); n != 1 {
				t.Errorf("d%d was fetched %d times, want 1", i, n)
			}
		}
		r.want("d0.example", policy.Secure, 0) // the old one has expired
		time.Sleep(50 * time.Minute)
		r.want("d1.example", policy.Secure, 0)
		w.set(func() { w.saveErr = nil })
		time.Sleep(time.Minute)
		if n := r.Entries().Unwritten; n != 0 {
			t.Errorf("%d records unwritten", n)
		}
	})
}

func TestRunWithAStoreThatCannotSayWhatIsDue(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := start(t, w, Options{Store: brokenDue{w}})
		defer r.stop()
		time.Sleep(3500 * time.Millisecond)
		r.counts.want(t, "store due", 3)
	})
}

// A store that was damaged may find a policy after it was asked for it in vain.
// What is due there and nowhere known is taken from there.
func TestWhatTheStoreFoundLateIsInForceWhenItIsDue(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-59*time.Minute)))
		time.Sleep(2 * time.Minute)
		r.want("example.com", policy.Secure, 0)
	})
}
