package cache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// What nobody here knows a policy of is found out, not believed, unless the
// policy enforces.
func TestSharedPolicyOfAnUnknownDomain(t *testing.T) {
	now := func(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
	for _, tt := range []struct {
		name, id, text string
		fetched        func() time.Time
		want           policy.Kind
	}{
		{"enforce", "1", aWeek, now(-time.Hour), policy.Secure},
		{"a clock that is a little ahead", "1", aWeek, now(4 * time.Minute), policy.Secure},
		{"none", "1", "none 168h", now(-time.Hour), policy.NotFound},
		{"testing", "1", "testing 168h mx.example.net", now(-time.Hour), policy.NotFound},
		{"fetched tomorrow", "1", aWeek, now(24 * time.Hour), policy.NotFound},
		{"expired", "1", aWeek, now(-168 * time.Hour), policy.NotFound},
		{"no policy", "1", "garbage", now(-time.Hour), policy.NotFound},
		{"no text", "1", "", now(-time.Hour), policy.NotFound},
		{"no id", "", aWeek, now(-time.Hour), policy.NotFound},
		{"an id that cannot be", "1\x1b[2J", aWeek, now(-time.Hour), policy.NotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := newFleet()
				s.forge(t, fetchedRecord(t, "a.example", tt.id, tt.text, tt.fetched()))
				b, _ := startIn(t, w, s)
				defer b.stop()
				b.want("a.example", tt.want, 0)
				synctest.Wait() // the look goes on beside the answer
				if n := w.count(w.looks, "a.example"); n != 1 {
					t.Errorf("%d looks at the TXT record, want 1", n)
				}
			})
		})
	}
}

// A policy of another domain's key is not this domain's.
func TestRecordUnderAnotherName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		s.forge(t, fetchedRecord(t, "evil.example", "1", aWeek, time.Now()))
		s.set(func() { s.records[dom(t, "a.example")] = s.records[dom(t, "evil.example")] })
		b, _ := startIn(t, w, s)
		defer b.stop()
		b.want("a.example", policy.NotFound, 0)
	})
}

// Nothing that anybody writes into the shared store changes an answer about a
// domain whose policy is in force.
func TestForgedRecordChangesNoAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    func(t *testing.T) Record
		// fetches of this relay that follow from the forgery.
		fetches int
	}{
		{"weaker: none", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "1", "none 168h", time.Now())
		}, 1},
		{"weaker: testing, under a new id", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "2", "testing 168h mx.example.net", time.Now())
		}, 1},
		{"another host", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "1", "enforce 168h mx.evil.example", time.Now())
		}, 1},
		{"the same under another id", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "2", aWeek, time.Now())
		}, 0},
		{"a shorter life", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "1", "enforce 1h mx.example.net", time.Now())
		}, 1},
		{"fetched tomorrow", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "1", "none 168h", time.Now().Add(24*time.Hour))
		}, 0},
		{"an older fetch", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "0", "none 8760h", time.Now().Add(-48*time.Hour))
		}, 0},
		{"garbage", func(t *testing.T) Record {
			return fetchedRecord(t, "a.example", "1", "\x00", time.Now())
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s, a, local := learned(t, w, 0)
				defer a.stop()
				time.Sleep(10 * time.Minute)
				s.forge(t, tt.r(t))
				synctest.Wait()
				a.want("a.example", policy.Secure, 0)
				time.Sleep(time.Second)
				v := a.ask("a.example")
				if v.Kind != policy.Secure || len(v.Policy.MX) != 1 || v.Policy.MX[0].String() != "mx.example.net" {
					t.Errorf("answered %s %v", v.Kind, v.Policy)
				}
				if r := local.record(t, "a.example"); r.Text != aWeek || r.ID != "1" {
					t.Errorf("the store of its own holds %q under %q", r.Text, r.ID)
				}
				if n := w.count(w.fetches, "a.example") - 1; n != tt.fetches {
					t.Errorf("%d fetches followed, want %d", n, tt.fetches)
				}
			})
		})
	}
}

// Who writes hints again and again has a relay fetch once in a recheck.
func TestHintsAreFollowedOnceInARecheck(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, time.Hour)
		defer a.stop()
		time.Sleep(time.Minute)
		for i := range 600 { // ten minutes
			s.forge(t, fetchedRecord(t, "a.example", "1", fmt.Sprintf("none %dh", i+1), time.Now().Add(4*time.Minute)))
			time.Sleep(time.Second)
			a.want("a.example", policy.Secure, 0)
		}
		if n := w.count(w.fetches, "a.example"); n > 12 {
			t.Errorf("%d fetches within ten minutes", n)
		}
	})
}

// A hint is not followed while the policy host does not answer.
func TestHintAfterAFailedFetch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 0)
		defer a.stop()
		time.Sleep(10 * time.Minute)
		w.publish("a.example", site{id: "1"})
		for range 3 {
			s.forge(t, fetchedRecord(t, "a.example", "2", "none 168h", time.Now()))
			time.Sleep(90 * time.Second)
		}
		a.want("a.example", policy.Secure, 0)
		if n := w.count(w.fetches, "a.example"); n != 2 {
			t.Errorf("%d fetches, want the first and one for the hints", n)
		}
	})
}

// A record that cannot be read at home is read in the fleet.
func TestDamagedRecordIsFoundInTheFleet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		s.forge(t, fetchedRecord(t, "a.example", "1", aWeek, time.Now().Add(-time.Hour)))
		w.publish("a.example", site{noDNS: true})
		a, local := startIn(t, w, s)
		defer a.stop()
		local.loadErr["a.example"] = ErrDamaged
		a.want("a.example", policy.Secure, 0)
	})
}

// Fetches for hints that failed showed nothing, new or not: they do not put off
// the next hint as those do that showed what was known.
func TestHintsWhileTheHostWasDown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 2*time.Hour)
		defer a.stop()
		begun := time.Now()
		hint := func(minute int, text string) {
			time.Sleep(time.Until(begun.Add(time.Duration(minute) * time.Minute)))
			s.forge(t, fetchedRecord(t, "a.example", "1", text, time.Now()))
			time.Sleep(time.Second)
		}
		for _, minute := range []int{10, 12, 16} { // the next may come 8 minutes later
			hint(minute, "enforce 200h mx.example.net")
		}
		if n := w.count(w.fetches, "a.example"); n != 4 {
			t.Fatalf("%d fetches, want the first and one for each hint", n)
		}
		w.publish("a.example", site{id: "1", ttl: time.Hour})
		hint(24, "enforce 200h mx.example.net")
		const changed = "enforce 168h mx2.example.net"
		time.Sleep(time.Until(begun.Add(39*time.Minute - time.Second)))
		w.publish("a.example", site{id: "1", text: changed, ttl: time.Hour})
		hint(39, changed)
		if v := a.ask("a.example"); v.Policy.MX[0].String() != "mx2.example.net" {
			t.Errorf("answered %v", v.Policy)
		}
	})
}
