package cache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// aWeek is a policy as most are, of a domain whose other texts differ from it.
const aWeek = "enforce 168h mx.example.net"

func TestWhatOneRelayLearnedAnotherAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
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
				s := newFleet()
				w.publish("a.example", site{id: "1", text: aWeek})
				a, local := startIn(t, w, s)
				defer a.stop()
				a.want("a.example", policy.Secure, 0)
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
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek, ttl: time.Hour})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
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
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
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
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
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

// learnMany has a relay learn the policies of n domains, and returns their names.
func learnMany(t *testing.T, w *world, r *relay, n int) (name func(i int) string) {
	t.Helper()
	name = func(i int) string { return fmt.Sprintf("d%05d.example", i) }
	for i := range n {
		w.publish(name(i), site{id: "1", text: aWeek})
		r.want(name(i), policy.Secure, 0)
	}
	return name
}

func TestSharedStoreBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		a, _ := startIn(t, w, s)
		defer a.stop()
		const domains = 250
		name := learnMany(t, w, a, domains)
		w.publish("short.example", site{id: "1", text: "enforce 1h mx.example.net"})
		a.want("short.example", policy.Secure, 0)
		w.publish("short.example", site{})
		time.Sleep(2 * time.Hour) // its policy is over by then
		s.set(func() { clear(s.records) })
		s.members[0].news <- News{Behind: true}
		time.Sleep(10 * time.Second)
		for i := range domains {
			if !s.holds(t, name(i)) {
				t.Fatalf("%s was not saved anew", name(i))
			}
		}
		if s.holds(t, "short.example") {
			t.Error("a policy that is over was saved")
		}
	})
}

func TestPurgeInAFleet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
		synctest.Wait()
		w.publish("a.example", site{})
		if known, err := a.Purge(t.Context(), dom(t, "a.example")); !known || err != nil {
			t.Fatalf("Purge = %v, %v", known, err)
		}
		a.want("a.example", policy.NotFound, 0)
		if s.holds(t, "a.example") {
			t.Error("the shared store still holds it")
		}
	})
}

func TestPurgeWhileTheSharedStoreIsDown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		w.publish("b.example", site{id: "1", text: aWeek})
		a, local := startIn(t, w, s)
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
		a.want("b.example", policy.Secure, 0)
		s.set(func() { s.err = ErrUnavailable })
		if known, err := a.Purge(t.Context(), dom(t, "a.example")); !known || !errors.Is(err, ErrStillShared) {
			t.Errorf("Purge = %v, %v, want ErrStillShared", known, err)
		}
		if n, err := a.PurgeAll(t.Context()); n != 1 || !errors.Is(err, ErrStillShared) {
			t.Errorf("PurgeAll = %d, %v, want 1 and ErrStillShared", n, err)
		}
		if len(local.records) != 0 {
			t.Error("the store of its own still holds something")
		}
	})
}

// What is being saved when its domain is purged does not stay.
func TestPurgeDuringASave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		w.publish("a.example", site{id: "1", text: aWeek})
		a, _ := startIn(t, w, s)
		defer a.stop()
		s.set(func() { s.takes = 200 * time.Millisecond })
		a.want("a.example", policy.Secure, 200*time.Millisecond)
		time.Sleep(100 * time.Millisecond)
		w.publish("a.example", site{})
		if _, err := a.Purge(t.Context(), dom(t, "a.example")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s.holds(t, "a.example") {
			t.Error("the shared store holds what was purged")
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

func TestTooMuchToShareIsSharedAsAWhole(t *testing.T) {
	o := newOutbox()
	for i := range maxUnshared + 1 {
		o.add(dom(t, fmt.Sprintf("d%d.example", i)), errandSave)
	}
	if o.len() != maxUnshared || !o.takeAll() {
		t.Errorf("%d wait, want %d, and all to be saved anew", o.len(), maxUnshared)
	}
	if o.takeAll() {
		t.Error("all is to be saved anew twice")
	}
}
