package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"tlspolicyd/resolver/policy"
)

// stored is a record as a cache that ran before would have left it.
func stored(t *testing.T, name, text string, fetched time.Time) Record {
	t.Helper()
	r := Record{Domain: dom(t, name), Text: text, ID: "1", Fetched: fetched, LastUse: fetched}
	if p, err := parseTest(text); err == nil {
		r.Expires = fetched.Add(p.MaxAge)
		if p.MaxAge > 5*time.Minute {
			r.Refresh = fetched.Add(p.MaxAge / 2)
		}
	}
	return r
}

func TestStoredPolicyAnswersWhileEverythingElseIsDead(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-10*time.Minute)))
		w.publish("example.com", site{noDNS: true})
		w.lookTakes, w.fetchTakes = 6*time.Second, time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		r.counts.want(t, "lookup store", 1)
		r.wantAs("example.com", policy.ClassSTS, policy.Temp, 0) // DANE cannot be ruled out
		for range 109 {
			time.Sleep(time.Minute)
			r.want("example.com", policy.Secure, 0)
		}
		time.Sleep(time.Minute)
		r.want("example.com", policy.NotFound, 6*time.Second)
		if n := w.count(w.loads, "example.com"); n != 1 {
			t.Errorf("%d loads, want 1", n)
		}
	})
}

func TestExpiredRecordIsNotApplied(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-2*time.Hour)))
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
	})
}

func TestPolicyIsDurableBeforeItIsAnswered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.saveTakes = 3 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 3*time.Second)
		if got := w.record(t, "example.com"); got.Text != enforce || got.ID != "1" || !got.Expires.Equal(got.Fetched.Add(2*time.Hour)) {
			t.Errorf("stored %+v", got)
		}
	})
}

func TestStoreThatRefusesWithholdsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.saveErr = errors.New("no space")
		// One place in memory: the second domain drives the first one out.
		r := start(t, w, Options{Memory: 1})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.net", site{id: "1", text: enforce})
		r.want("example.net", policy.Secure, 0)
		w.publish("example.com", site{noDNS: true})
		r.want("example.com", policy.Secure, 0)
		r.counts.want(t, "store save", 2)
		if n := r.Entries().Unwritten; n != 2 {
			t.Errorf("%d records wait to be written, want 2", n)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if w.saves > 65 {
			t.Errorf("%d attempts in 10 minutes, want one per 10 s", w.saves)
		}
		w.set(func() { w.saveErr = nil })
		time.Sleep(13 * time.Second)
		synctest.Wait()
		if n := r.Entries().Unwritten; n != 0 {
			t.Errorf("%d records still wait to be written", n)
		}
		for _, name := range []string{"example.com", "example.net"} {
			if w.record(t, name).Text != enforce {
				t.Errorf("%s was not written", name)
			}
		}
	})
}

func TestStoreThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.publish("example.org", site{})
		w.saveTakes = time.Hour
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, storeTimeout)
		w.set(func() { w.loadTakes = time.Hour })
		r.want("example.org", policy.Temp, storeTimeout)
	})
}

func TestReadErrorDefersMailForAMinute(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
	}{
		{"damaged", fmt.Errorf("reading: %w", ErrDamaged)},
		{"unreadable", errors.New("input/output error")},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.loadErr["example.com"], w.loadErr["secure.example"] = test.err, test.err
				w.publish("secure.example", site{id: "1", text: enforce})
				r := start(t, w, Options{})
				defer r.stop()
				r.want("example.com", policy.Temp, 0)
				r.want("other.example", policy.NotFound, 0)
				r.want("secure.example", policy.Secure, 0)
				time.Sleep(59 * time.Second)
				r.want("example.com", policy.Temp, 0)
				time.Sleep(6 * time.Second)
				r.want("example.com", policy.NotFound, 0)
				time.Sleep(10 * time.Minute)
				r.want("example.com", policy.NotFound, 0)
			})
		})
	}
}

func TestReadErrorThatPasses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		w.loadErr["example.com"], w.loadErr["none.example"] = ErrDamaged, ErrDamaged
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Temp, 0)
		r.want("none.example", policy.Temp, 0)
		w.set(func() { clear(w.loadErr) })
		r.want("example.com", policy.Temp, 0)
		time.Sleep(lostFresh)
		r.want("example.com", policy.Secure, 0)
		r.want("none.example", policy.NotFound, 0)
	})
}

func TestFailureDoesNotReplaceADamagedRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.loadErr["example.com"] = ErrDamaged
		w.publish("example.com", site{id: "1"}) // the fetch fails
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Temp, 0)
		time.Sleep(20 * time.Second)
		r.want("example.com", policy.Temp, 0)
		time.Sleep(20 * time.Minute)
		r.want("example.com", policy.NotFound, 0)
		if w.saves != 0 {
			t.Errorf("%d saves, want 0", w.saves)
		}
		if n := w.count(w.fetches, "example.com"); n != 2 {
			t.Errorf("%d fetches, want 2: the failure was forgotten", n)
		}
		w.publish("example.com", site{id: "2", text: enforce})
		time.Sleep(time.Minute)
		r.want("example.com", policy.Secure, 0)
		if w.record(t, "example.com").Text != enforce {
			t.Error("the policy was not stored")
		}
	})
}

func TestUnparsableTextIsADamagedRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", "garbage", time.Now()))
		w.keep(t, stored(t, "empty.example", "", time.Now()))
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Temp, 0)
		r.want("empty.example", policy.Temp, 0)
	})
}

func TestFetchInTheFuture(t *testing.T) {
	tests := []struct {
		name      string
		ahead     time.Duration
		refreshed int
	}{
		{"a little", 4 * time.Minute, 0},
		{"a lot", 1000 * time.Hour, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.keep(t, stored(t, "example.com", enforce, time.Now().Add(test.ahead)))
				w.publish("example.com", site{noDNS: true})
				r := start(t, w, Options{})
				defer r.stop()
				r.want("example.com", policy.Secure, 0)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if n := w.count(w.fetches, "example.com"); n != test.refreshed {
					t.Errorf("%d refreshes, want %d", n, test.refreshed)
				}
				time.Sleep(2*time.Hour - 10*time.Second)
				r.want("example.com", policy.Secure, 0)
				time.Sleep(10 * time.Second)
				r.want("example.com", policy.NotFound, 0) // life ran from the start at the latest
			})
		})
	}
}

func TestRestoreWhenTheClockJumpedWhileRunning(t *testing.T) {
	// A time without a monotonic reading stands for a clock that jumped:
	// started and now differ by what the wall clock says.
	started := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &Cache{parse: parseTest, started: started}
	r := stored(t, "example.com", enforce, started.Add(-time.Hour))
	for _, jump := range []time.Duration{-30 * time.Minute, 0, 100 * time.Hour} {
		sts, err := c.restore(started.Add(jump), &r)
		if err != nil {
			t.Fatal(err)
		}
		if !sts.Fetched.Equal(r.Fetched) || !sts.Refresh.Equal(r.Refresh) {
			t.Errorf("jump of %s: fetched %s, refresh %s", jump, sts.Fetched, sts.Refresh)
		}
	}
	now := time.Now() // with a monotonic reading, years before started
	if got := ahead(now, now.Add(time.Hour)); got != time.Hour {
		t.Errorf("an hour ahead: got %s", got)
	}
}

// jumped returns t as it would have been read if the wall clock had jumped by d
// before. It relies on the layout that package time documents for a Time with
// a monotonic reading: seconds above 30 bits of nanoseconds.
func jumped(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = uint64(int64(*wall) + int64(d/time.Second)<<30)
	return t
}

func TestRestoreWhenTheClockWasSetAfterTheStart(t *testing.T) {
	// The clock was a year behind when the daemon was started, and is right
	// when the record is read: its policy ends and is refreshed in time.
	const year = 365 * 24 * time.Hour
	started := time.Now()
	now := jumped(started.Add(10*time.Second), year)
	r := stored(t, "example.com", enforce, now.Round(0).Add(-30*time.Minute))
	c := &Cache{parse: parseTest, started: started}
	sts, err := c.restore(now, &r)
	if err != nil {
		t.Fatal(err)
	}
	if end := now.Add(90 * time.Minute); !sts.InForce(end.Add(-time.Second)) || sts.InForce(end) {
		t.Errorf("the policy does not end at %s: fetched %s", end, sts.Fetched)
	}
	if wait := sts.Refresh.Sub(now); wait != 30*time.Minute {
		t.Errorf("it is refreshed in %s, want 30m", wait)
	}
}

func TestRecordKeepsTheFact(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		r.want("example.com", policy.Secure, 0)
		before := r.memory.peek(dom(t, "example.com")).sts
		r.stop()
		rec := w.record(t, "example.com")
		after, err := r.restore(time.Now(), &rec)
		if err != nil {
			t.Fatal(err)
		}
		if after.Policy.Text != before.Policy.Text || after.ID != before.ID || !after.Fetched.Equal(before.Fetched) || !after.Refresh.Equal(before.Refresh) {
			t.Errorf("got %+v, want %+v", after, before)
		}
	})
}

func TestPolicyThatIsNotStoredIsRefreshedToo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.saveErr = errors.New("full")
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5*time.Hour + time.Minute)
		r.counts.want(t, "refresh ok", 5)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestDomainPutToSleepByAWrongClockIsWoken(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		rec := stored(t, "example.com", enforce, time.Now().Add(-time.Minute))
		rec.Refresh = time.Time{}
		w.keep(t, rec)
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(3 * time.Second)
		r.counts.want(t, "refresh ok", 1)
		if w.record(t, "example.com").Refresh.IsZero() {
			t.Error("not due for refresh")
		}
	})
}

func TestPanicBelowEndsOneLookupAndNotTheDaemon(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		r := start(t, w, Options{})
		defer r.stop()
		r.resolver = panicking{}
		for range 3 {
			r.wantAs("example.com", policy.ClassSTS, policy.Temp, 0)
			r.want("example.com", policy.Secure, 0)
			r.want("example.net", policy.NotFound, 0)
		}
		synctest.Wait()
		if len(r.lookups)+len(r.fetches)+len(r.flights)+len(r.lookingUp) != 0 {
			t.Error("a place in a pool was lost")
		}
	})
}

// panicking is a resolver with a bug.
type panicking struct{}

func (panicking) Look(context.Context, policy.Domain, policy.STS) policy.STS  { panic("look") }
func (panicking) Fetch(context.Context, policy.Domain, policy.STS) policy.STS { panic("fetch") }
func (panicking) Adopt(policy.STS, *policy.STSPolicy, string, time.Time) policy.STS {
	panic("adopt")
}
func (panicking) DANE(context.Context, policy.NextHop, policy.DANE) policy.DANE { panic("dane") }
