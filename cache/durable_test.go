package cache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

func TestADomainThatWasIdleWhileItsRefreshFailedIsWoken(t *testing.T) {
	// A refresh failed, then nobody asked for so long that no other was tried.
	bubble(t, func(t *testing.T, w *world) {
		const text = "enforce 720h mx.example.com"
		rec := stored(t, "example.com", text, time.Now().Add(-40*time.Hour))
		rec.Refresh = time.Time{}
		rec.Failure = policy.Failure{ID: "1", At: time.Now().Add(-30 * time.Hour), Count: 1, Kind: "status", Reason: "HTTP status 404"}
		w.keep(t, rec)
		w.publish("example.com", site{id: "1", text: text})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Second)
		r.counts.want(t, "refresh ok", 1)
		if w.record(t, "example.com").Refresh.IsZero() {
			t.Error("not due for refresh")
		}
	})
}

func TestAPolicyInPlaceOfADamagedRecordIsWrittenWhenTheStoreTakesItAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.loadErr["example.com"] = ErrDamaged
		w.saveErr = errors.New("no space")
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Minute)
		if n := r.Entries().Unwritten; n != 1 {
			t.Errorf("%d records wait to be written, want 1", n)
		}
		w.set(func() { w.saveErr = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.record(t, "example.com").Text != enforce {
			t.Error("the policy was not stored")
		}
	})
}

// stuck is a store whose Save does not come back before its time, whatever
// becomes of its context: so does a sync of a disk that hangs.
type stuck struct {
	*world
	takes time.Duration
}

func (s stuck) Save(_ context.Context, r Record) error {
	time.Sleep(s.takes)
	return s.world.Save(context.Background(), r)
}

func TestAWriteThatHangsWithholdsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{Store: stuck{w, time.Hour}})
		defer r.stop()
		r.want("example.com", policy.Secure, storeTimeout)
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Hour)
		r.want("example.com", policy.Secure, 0)
		if w.record(t, "example.com").Text != enforce {
			t.Error("the policy was not stored")
		}
	})
}

func TestAPolicyThatEndedIsNoLongerCountedAsExpiring(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{})
		time.Sleep(119 * time.Minute)
		if n := r.Entries().Expiring; n != 1 {
			t.Errorf("before the end %d are expiring, want 1", n)
		}
		time.Sleep(2 * time.Minute)
		if n := r.Entries().Expiring; n != 0 {
			t.Errorf("after the end %d are expiring, want 0", n)
		}
	})
}

func TestAFetchInTheFutureStaysWhileTheClockMayBeWrong(t *testing.T) {
	// A machine without a clock of its own begins long ago, and learns the
	// time when the network is there.
	bubble(t, func(t *testing.T, w *world) {
		fetched := time.Now().Add(50 * 365 * 24 * time.Hour)
		w.keep(t, stored(t, "example.com", enforce, fetched))
		w.publish("example.com", site{id: "1"}) // every fetch fails
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(20 * time.Minute)
		r.want("example.com", policy.Secure, 0)
		rec := w.record(t, "example.com")
		if !rec.Fetched.Equal(fetched) || !rec.Expires.Equal(fetched.Add(2*time.Hour)) {
			t.Errorf("a daemon that is started with the right clock finds a policy of %s that ends %s, want %s", rec.Fetched, rec.Expires, fetched)
		}
		if rec.Failure.At.IsZero() {
			t.Error("no refresh was tried")
		}
	})
}

func TestAFetchInTheFutureIsCorrectedOnceTheClockIsTrusted(t *testing.T) {
	// The clock was ahead when the policy was learned, and has been set back.
	// However often the daemon is started, the policy does not live for ever.
	bubble(t, func(t *testing.T, w *world) {
		const text = "enforce 720h mx.example.com"
		begun := time.Now()
		w.keep(t, stored(t, "example.com", text, begun.Add(1000*time.Hour)))
		w.publish("example.com", site{id: "1"}) // every fetch fails
		r := start(t, w, Options{})
		r.want("example.com", policy.Secure, 0)
		time.Sleep(40 * time.Hour)
		r.stop()
		if got := w.record(t, "example.com"); !got.Fetched.Equal(begun) || !got.Expires.Equal(begun.Add(720*time.Hour)) {
			t.Errorf("fetched %s, ends %s, want %s and 720 hours later", got.Fetched, got.Expires, begun)
		}
	})
}

func TestAFetchAfterOneInTheFutureCounts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(1000*time.Hour)))
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Second)
		if got := w.record(t, "example.com").Fetched; got.After(time.Now()) {
			t.Errorf("the record says that the policy was fetched at %s", got)
		}
	})
}

func TestUseIsNotedAfterTheClockWasSetBack(t *testing.T) {
	for _, ahead := range []time.Duration{0, 365 * 24 * time.Hour} {
		bubble(t, func(t *testing.T, w *world) {
			r := start(t, w, Options{})
			defer r.stop()
			now, domain := time.Now(), dom(t, "example.com")
			sts := policy.STS{Fetched: now}
			sts.Policy, _ = parseTest(enforce)
			u := &use{}
			for _, at := range []*seconds{&u.last, &u.saved, &u.marked} {
				at.Store(now.Add(ahead).Unix())
			}
			r.noteUse(now, domain, &sts, u) // its refresh is not set
			if marked := r.Entries().Unwritten == 1; marked != (ahead > 0) {
				t.Errorf("%s ahead: marked %v", ahead, marked)
			}
			if got := u.last.Load(); got != now.Unix() {
				t.Errorf("%s ahead: the last use was %s", ahead, fromUnix(got))
			}
		})
	}
}

func TestARefreshThatPanicsIsNotTriedAgainAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		rec := stored(t, "example.com", enforce, time.Now().Add(-time.Minute))
		rec.Refresh = time.Now().Add(time.Minute)
		w.keep(t, rec)
		r := start(t, w, Options{})
		defer r.stop()
		r.mu.Lock()
		r.resolver = panicking{}
		r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if n := w.count(w.loads, "example.com"); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		if n := r.refreshes.free(); n != cap(r.refreshes) {
			t.Errorf("%d places for refreshes are left, want %d", n, cap(r.refreshes))
		}
	})
}

func TestAStoreThatPanicsEndsOneWriteAndNotTheDaemon(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{Store: broken{w}})
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
		time.Sleep(2 * storeTimeout)
		r.want("example.net", policy.NotFound, 0)
	})
}

// broken is a store with a bug.
type broken struct{ *world }

func (broken) Save(context.Context, Record) error { panic("save") }

func TestAFetchInTheFutureStaysThoughTheStoreRefusedItAtFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		fetched := time.Now().Add(1000 * time.Hour)
		w.keep(t, stored(t, "example.com", enforce, fetched))
		w.publish("example.com", site{id: "1"}) // every fetch fails
		w.publish("example.net", site{id: "1", text: enforce})
		w.saveErr = errors.New("no space")
		r := start(t, w, Options{Memory: 1})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Second)
		r.want("example.net", policy.Secure, 0) // takes the place in memory
		w.set(func() { w.saveErr = nil })
		time.Sleep(time.Minute)
		if got := w.record(t, "example.com"); got.Failure.At.IsZero() || !got.Fetched.Equal(fetched) {
			t.Errorf("fetched %s, want %s; the failure: %+v", got.Fetched, fetched, got.Failure)
		}
	})
}

func TestAReadErrorThatPassesAfterAWhileHasHiddenNothingForGood(t *testing.T) {
	for _, name := range []string{"example.com", "failing.example"} {
		bubble(t, func(t *testing.T, w *world) {
			w.keep(t, stored(t, name, enforce, time.Now()))
			w.publish("failing.example", site{id: "1"}) // the fetch fails
			w.loadErr[name] = errors.New("input/output error")
			r := start(t, w, Options{})
			defer r.stop()
			r.want(name, policy.Temp, 0)
			for range 10 {
				time.Sleep(10 * time.Second)
				r.ask(name)
			}
			w.set(func() { delete(w.loadErr, name) })
			time.Sleep(lostFor)
			r.want(name, policy.Secure, 0)
		})
	}
}

func TestAReadErrorPutsARefreshOffByLittle(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		rec := stored(t, "example.com", enforce, time.Now().Add(-time.Hour))
		rec.Refresh = time.Now()
		w.keep(t, rec)
		w.publish("example.com", site{id: "1", text: enforce})
		w.loadErr["example.com"] = errors.New("input/output error")
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(5 * time.Second)
		w.set(func() { delete(w.loadErr, "example.com") })
		time.Sleep(retryWrites + 2*time.Second)
		r.counts.want(t, "refresh ok", 1)
	})
}
