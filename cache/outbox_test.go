package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

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
		s, a, _ := learned(t, w, 0)
		defer a.stop()
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

// That the shared store refuses a purge of all is counted like any other refusal.
func TestPurgeOfAllThatIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		a, _ := startIn(t, w, s)
		defer a.stop()
		refused := errors.New("NOPERM")
		s.set(func() { s.err = refused })
		if n, err := a.PurgeAll(t.Context()); n != 0 || !errors.Is(err, ErrStillShared) || !errors.Is(err, refused) {
			t.Errorf("PurgeAll = %d, %v, want 0, ErrStillShared and %v", n, err, refused)
		}
		a.counts.want(t, "store shared remove", 1)
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

// odd is a member of a fleet whose saves go another way.
type odd struct {
	*member
	save func(ctx context.Context, r Record) error
}

func (o *odd) Save(ctx context.Context, r Record) error { return o.save(ctx, r) }

// A save whose answer came too late does not bring a purged domain back.
func TestPurgeAfterASaveThatSeemedToFail(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		m := s.join()
		first := true
		o := &odd{member: m}
		o.save = func(ctx context.Context, r Record) error {
			if !first {
				return m.Save(ctx, r)
			}
			first = false
			time.Sleep(250 * time.Millisecond)
			if err := m.Save(ctx, r); err != nil {
				return err
			}
			return context.DeadlineExceeded
		}
		w.publish("a.example", site{id: "1", text: aWeek})
		a := start(t, w, Options{Store: newWorld(), Shared: o})
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
		time.Sleep(100 * time.Millisecond)
		w.publish("a.example", site{})
		if _, err := a.Purge(t.Context(), dom(t, "a.example")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s.holds(t, "a.example") {
			t.Error("the shared store holds what was purged")
		}
		a.want("a.example", policy.NotFound, 0)
	})
}

// What was purged while the shared store was down is removed from it later.
func TestPurgeIsMadeUpFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 0)
		defer a.stop()
		synctest.Wait()
		s.set(func() { s.err = ErrUnavailable })
		if _, err := a.Purge(t.Context(), dom(t, "a.example")); !errors.Is(err, ErrStillShared) {
			t.Errorf("Purge: %v, want ErrStillShared", err)
		}
		time.Sleep(time.Minute)
		s.set(func() { s.err = nil })
		time.Sleep(5 * time.Second)
		if s.holds(t, "a.example") {
			t.Error("the shared store still holds what was purged")
		}
	})
}

// A domain that cannot be saved holds up no other.
func TestOneDomainThatCannotBeSaved(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		m := s.join()
		o := &odd{member: m}
		o.save = func(ctx context.Context, r Record) error {
			if r.Domain == dom(t, "a.example") {
				return errors.New("CLUSTERDOWN Hash slot not served")
			}
			return m.Save(ctx, r)
		}
		a := start(t, w, Options{Store: newWorld(), Shared: o})
		defer a.stop()
		for _, d := range []string{"a.example", "b.example", "c.example"} {
			w.publish(d, site{id: "1", text: aWeek})
			a.want(d, policy.Secure, 0)
		}
		time.Sleep(time.Minute)
		s.set(func() { clear(s.records) })
		m.news <- News{Behind: true}
		time.Sleep(10 * time.Second)
		if !s.holds(t, "b.example") || !s.holds(t, "c.example") {
			t.Error("not all was saved anew")
		}
		w.publish("d.example", site{id: "1", text: aWeek})
		a.want("d.example", policy.Secure, 0)
		time.Sleep(time.Second)
		if !s.holds(t, "d.example") {
			t.Error("what was learned was not saved within a second")
		}
	})
}

// Who says again and again that the store has lost its memory does not keep it
// from being filled.
func TestSharedStoreThatBeginsAnewAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := newFleet()
		a, _ := startIn(t, w, s)
		defer a.stop()
		const domains = 3000
		name := learnMany(t, w, a, domains)
		time.Sleep(10 * time.Second)
		s.set(func() { clear(s.records) })
		for range 60 {
			s.members[0].news <- News{Behind: true}
			time.Sleep(time.Second)
		}
		if !s.holds(t, name(domains-1)) {
			t.Error("the last was not saved anew")
		}
	})
}

// Errands that fail are as bounded as the others, and tried again a few at a time.
func TestFailedErrandsAreBounded(t *testing.T) {
	o := newOutbox()
	for i := range maxUnshared {
		o.again(dom(t, fmt.Sprintf("d%d.example", i)), errandSave)
	}
	if o.takeAll() {
		t.Error("all is to be saved anew though there was room")
	}
	o.again(dom(t, "one.more.example"), errandSave)
	if o.len() != maxUnshared || !o.takeAll() {
		t.Errorf("%d wait, want %d, and all to be saved anew", o.len(), maxUnshared)
	}
	o.retry()
	n := 0
	for _, _, ok := o.take(); ok; _, _, ok = o.take() {
		n++
	}
	if n != retryAtOnce {
		t.Errorf("%d are tried again at a time, want %d", n, retryAtOnce)
	}
}

// A newer errand of a domain takes the place of one that failed, not the other way
// round.
func TestNewerErrandCounts(t *testing.T) {
	o := newOutbox()
	a := dom(t, "a.example")
	o.again(a, errandSave)
	o.add(a, errandRemove)
	o.again(a, errandSave)
	o.retry()
	if _, e, ok := o.take(); !ok || e != errandRemove {
		t.Errorf("took %v, %v, want the removal", e, ok)
	}
	if _, _, ok := o.take(); ok {
		t.Error("there is another errand of the domain")
	}
}

// However much is to be saved after a long outage, what is purged in it is removed.
func TestRemovalsHaveRoomBesideSaves(t *testing.T) {
	o := newOutbox()
	for i := range maxUnshared {
		o.add(dom(t, fmt.Sprintf("d%d.example", i)), errandSave)
	}
	for i := range maxUnshared + 1 {
		o.add(dom(t, fmt.Sprintf("purged%d.example", i)), errandRemove)
	}
	removals := 0
	for _, e, ok := o.take(); ok; _, e, ok = o.take() {
		if e == errandRemove {
			removals++
		}
	}
	if removals != maxUnshared {
		t.Errorf("%d domains will be removed, want %d", removals, maxUnshared)
	}
}

// What was purged while the shared store was out of reach is not learned from it
// again before it could be removed there.
func TestPurgedDomainDoesNotComeBackBeforeItIsRemoved(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error // of Remove
	}{{"out of reach", ErrUnavailable}, {"refused", errors.New("NOPERM")}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := newFleet()
				s.forge(t, fetchedRecord(t, "a.example", "1", aWeek, time.Now().Add(-time.Hour)))
				o := &keeping{member: s.join(), err: tt.err}
				a := start(t, w, Options{Store: newWorld(), Shared: o})
				defer a.stop()
				a.want("a.example", policy.Secure, 0)
				if _, err := a.Purge(t.Context(), dom(t, "a.example")); !errors.Is(err, ErrStillShared) {
					t.Errorf("Purge: %v, want ErrStillShared", err)
				}
				for range 100 {
					a.want("a.example", policy.NotFound, 0)
					time.Sleep(10 * time.Second)
				}
			})
		})
	}
}

// keeping is a member of a fleet that removes nothing.
type keeping struct {
	*member
	err error
}

func (k *keeping) Remove(context.Context, policy.Domain) error { return k.err }

// What another relay tells of a domain is heard while that is being saved, too.
func TestNewsDuringASave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		const other = "enforce 168h mx2.example.net"
		s := newFleet()
		m := s.join()
		slow := &odd{member: m, save: func(ctx context.Context, r Record) error {
			time.Sleep(200 * time.Millisecond)
			return m.Save(ctx, r)
		}}
		w.publish("a.example", site{id: "1", text: aWeek})
		a := start(t, w, Options{Store: newWorld(), Shared: slow})
		defer a.stop()
		a.want("a.example", policy.Secure, 0)
		time.Sleep(time.Hour)
		m.news <- News{Behind: true}
		time.Sleep(100 * time.Millisecond) // it is being saved anew
		w.publish("a.example", site{id: "2", text: other})
		s.forge(t, fetchedRecord(t, "a.example", "2", other, time.Now()))
		time.Sleep(time.Second)
		if n := w.count(w.fetches, "a.example"); n != 2 {
			t.Errorf("%d fetches, want one at first and one of what changed", n)
		}
	})
}
