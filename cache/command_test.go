package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// Scan lists the records of a world.
func (w *world) Scan(_ context.Context, after policy.Domain, n int) ([]Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var domains []policy.Domain
	for d := range w.records {
		if d.String() > after.String() {
			domains = append(domains, d)
		}
	}
	slices.SortFunc(domains, func(a, b policy.Domain) int { return strings.Compare(a.String(), b.String()) })
	var records []Record
	for _, d := range domains[:min(n, len(domains))] {
		r, err := DecodeRecord(w.records[d])
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// stubborn is a store in which nothing is cut short: what was begun is done,
// some time later.
type stubborn struct {
	*world
	removeErr error
}

func (s *stubborn) Save(_ context.Context, r Record) error {
	return s.world.Save(context.Background(), r)
}

func (s *stubborn) Remove(ctx context.Context, domain policy.Domain) error {
	if s.removeErr != nil {
		return s.removeErr
	}
	return s.world.Remove(ctx, domain)
}

func (r *relay) purge(name string, want bool) {
	r.t.Helper()
	known, err := r.Purge(r.t.Context(), dom(r.t, name))
	if err != nil || known != want {
		r.t.Errorf("Purge(%s) = %v, %v, want %v", name, known, err, want)
	}
}

func (r *relay) refresh(name string, want Renewal) policy.STS {
	r.t.Helper()
	got, sts, err := r.Refresh(r.t.Context(), dom(r.t, name))
	if err != nil || got != want {
		r.t.Errorf("Refresh(%s) = %s, %v, want %s", name, got, err, want)
	}
	return sts
}

// gone checks that nothing is known of a domain, anywhere.
func (r *relay) gone(w *world, name string) {
	r.t.Helper()
	synctest.Wait()
	if v := r.Inspect(r.t.Context(), dom(r.t, name)); v.Known() || v.Unwritten || v.Expiring || !v.Held.IsZero() {
		r.t.Errorf("%s is known after a purge: %+v", name, v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.records[dom(r.t, name)]; ok {
		r.t.Errorf("the store holds a record of %s after a purge", name)
	}
}

func TestPurgeForgetsEverywhere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostPlain)})
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
		synctest.Wait()
		w.publish("example.com", site{})
		r.purge("example.com", true)
		r.gone(w, "example.com")
		r.purge("example.com", false)
		r.want("example.com", policy.NotFound, 0)
		r.purge("example.com", true) // an absence
		r.gone(w, "example.com")
	})
}

func TestPurgeOfWhatOnlyTheStoreHas(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		w.keep(t, stored(t, "damaged.example", enforce, time.Now()))
		w.loadErr["damaged.example"] = ErrDamaged
		r := start(t, w, Options{})
		defer r.stop()
		r.purge("example.com", true)
		r.purge("damaged.example", true)
		r.purge("other.example", false)
		r.gone(w, "example.com")
		if len(w.records) != 0 {
			t.Error("the store holds the damaged record")
		}
	})
}

// A store that was damaged may find a record after it said that there is none.
func TestWhatIsPurgedBeforeTheStoreFindsItDoesNotTurnUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		w.loadErr["example.com"] = ErrNotFound
		r := start(t, w, Options{})
		defer r.stop()
		r.purge("example.com", false)
		w.set(func() { clear(w.loadErr) })
		r.want("example.com", policy.NotFound, 0)
	})
}

func TestAFlightInProgressDoesNotBringAPurgedDomainBack(t *testing.T) {
	tests := []struct {
		name string
		slow func(w *world)
	}{
		{"a look", func(w *world) { w.lookTakes = 30 * time.Second }},
		{"a fetch", func(w *world) { w.fetchTakes = 30 * time.Second }},
		{"a write that cannot be stopped", func(w *world) { w.saveTakes = 3 * time.Second }},
		{"a read", func(w *world) { w.loadTakes = 3 * time.Second }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.publish("example.com", site{id: "1", text: enforce})
				test.slow(w)
				r := start(t, w, Options{Store: &stubborn{world: w}})
				defer r.stop()
				ctx, cancel := context.WithCancel(t.Context())
				go r.Lookup(ctx, time.Now(), policy.NextHop{Domain: dom(t, "example.com"), Port: 25}, policy.ClassSTSOnly)
				time.Sleep(time.Second)
				cancel()
				synctest.Wait()
				if _, err := r.Purge(t.Context(), dom(t, "example.com")); err != nil {
					t.Error(err)
				}
				r.gone(w, "example.com")
				time.Sleep(time.Minute)
				r.gone(w, "example.com")
			})
		})
	}
}

func TestARefreshInProgressDoesNotBringAPurgedDomainBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.set(func() { w.fetchTakes = 30 * time.Second })
		time.Sleep(time.Hour + 10*time.Second)
		if v := r.Inspect(t.Context(), dom(t, "example.com")); len(v.UnderWay) != 1 || v.UnderWay[0].What != goalRefresh.words() {
			t.Fatalf("under way: %v, want a refresh", v.UnderWay)
		}
		r.purge("example.com", true)
		r.gone(w, "example.com")
		time.Sleep(24 * time.Hour)
		r.gone(w, "example.com")
	})
}

// Who waits for a flight that a purge ends is not told that there is no policy.
func TestAQuestionThatWaitsDuringAPurgeIsAnsweredFromTheNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = 5 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { r.want("example.com", policy.Secure, 8*time.Second) })
		}
		time.Sleep(3 * time.Second)
		r.purge("example.com", false)
		wg.Wait()
		if n := w.count(w.fetches, "example.com"); n != 2 {
			t.Errorf("%d fetches, want one before the purge and one after", n)
		}
		if w.record(t, "example.com").ID != "1" {
			t.Error("what was learned after the purge is not in the store")
		}
	})
}

func TestPurgeWhileTheStoreRefusesWrites(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.saveErr = errors.New("disk full")
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		if v := r.Inspect(t.Context(), dom(t, "example.com")); !v.Unwritten || v.Record != nil {
			t.Errorf("got %+v, want something unwritten", v)
		}
		r.purge("example.com", true)
		w.set(func() { w.saveErr = nil })
		time.Sleep(time.Hour)
		r.gone(w, "example.com")
	})
}

func TestAPurgeThatTheStoreRefusesForgetsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		broken := errors.New("read-only")
		s := &stubborn{world: w, removeErr: broken}
		r := start(t, w, Options{Store: s})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{})
		if _, err := r.Purge(t.Context(), dom(t, "example.com")); !errors.Is(err, broken) {
			t.Errorf("Purge: %v, want %v", err, broken)
		}
		r.want("example.com", policy.Secure, 0)
		if n, err := r.PurgeAll(t.Context()); n != 0 || !errors.Is(err, broken) {
			t.Errorf("PurgeAll: %d, %v, want 0, %v", n, err, broken)
		}
		r.want("example.com", policy.Secure, 0)
		r.counts.want(t, "store remove", 2)
		if got := r.StoreTrouble(); got.Op != "remove" || !errors.Is(got.Err, broken) || got.At.IsZero() {
			t.Errorf("StoreTrouble() = %+v", got)
		}
		s.removeErr = nil
		r.purge("example.com", true)
		r.gone(w, "example.com")
	})
}

func TestADANELookupInProgressIsNotRememberedAfterAPurge(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{dane: hosts(policy.HostUsable)})
		w.daneTakes = 5 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		wg.Go(func() { r.wantAs("example.com", policy.ClassDANE, policy.DANEOnly, 5*time.Second) })
		time.Sleep(time.Second)
		r.purge("example.com", true)
		wg.Wait()
		r.gone(w, "example.com")
	})
}

func TestPurgeAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for i := range 2500 {
			w.keep(t, stored(t, fmt.Sprintf("stored%d.example", i), enforce, time.Now()))
		}
		w.publish("example.com", site{id: "1", text: enforce})
		w.publish("slow.example", site{id: "1", text: enforce})
		w.publish("unwritten.example", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		r.want("none.example", policy.NotFound, 0)
		w.set(func() { w.saveErr = errors.New("disk full") })
		r.want("unwritten.example", policy.Secure, 0)
		w.set(func() { w.saveErr, w.fetchTakes = nil, time.Minute })
		r.want("slow.example", policy.NotFound, 10*time.Second)
		n, err := r.PurgeAll(t.Context())
		if want := 2500 + 3; n != want || err != nil {
			t.Errorf("PurgeAll() = %d, %v, want %d", n, err, want)
		}
		for _, name := range []string{"example.com", "none.example", "unwritten.example", "slow.example", "stored7.example"} {
			r.gone(w, name)
		}
		time.Sleep(48 * time.Hour)
		if e := r.Entries(); e != (Entries{}) || len(w.records) != 0 {
			t.Errorf("left are %+v and %d records", e, len(w.records))
		}
	})
}

func TestPurgeAllEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now()))
		r := start(t, w, Options{})
		defer r.stop()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.PurgeAll(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("PurgeAll: %v, want %v", err, context.Canceled)
		}
	})
}

func TestRefreshOnCommand(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostPlain)})
		r := start(t, w, Options{})
		defer r.stop()
		r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
		r.refresh("example.com", RenewalTooSoon)
		time.Sleep(time.Minute)
		w.publish("example.com", site{id: "2", text: "testing 2h mx.example.com", dane: hosts(policy.HostPlain)})
		if sts := r.refresh("example.com", RenewalFetched); sts.ID != "2" || sts.Policy.Mode != policy.ModeTesting {
			t.Errorf("got %+v", sts)
		}
		if got := w.record(t, "example.com"); got.ID != "2" {
			t.Errorf("the store has id %q", got.ID)
		}
		r.want("example.com", policy.NotFound, 0)
		synctest.Wait()
		if n := w.count(w.danes, "example.com"); n != 2 {
			t.Errorf("%d DANE lookups, want 2", n)
		}
		// The same policy again, though its record is gone.
		time.Sleep(time.Minute)
		w.publish("example.com", site{text: "testing 2h mx.example.com"})
		if sts := r.refresh("example.com", RenewalFetched); sts.ID != "2" || time.Since(sts.Fetched) != 0 {
			t.Errorf("got %+v", sts)
		}
	})
}

func TestRefreshOnCommandOfADomainThatWasNeverSeen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.publish("broken.example", site{noDNS: true})
		r := start(t, w, Options{})
		defer r.stop()
		r.refresh("example.com", RenewalFetched)
		r.refresh("none.example", RenewalAbsent)
		r.refresh("broken.example", RenewalUnknown)
		r.want("example.com", policy.Secure, 0)
		if n := w.count(w.looks, "example.com"); n != 1 {
			t.Errorf("%d looks, want 1", n)
		}
	})
}

// RFC 8461, section 3.3, bounds what the daemon tries by itself.
func TestAnOperatorNeedNotWaitFiveMinutesAfterAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1"})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 0)
		r.refresh("example.com", RenewalTooSoon)
		time.Sleep(time.Minute)
		if sts := r.refresh("example.com", RenewalFailed); sts.Failure.Count != 2 {
			t.Errorf("failure %+v, want it counted with the one before", sts.Failure)
		}
		time.Sleep(time.Minute)
		w.publish("example.com", site{id: "1", text: enforce})
		r.want("example.com", policy.NotFound, 0)
		r.refresh("example.com", RenewalFetched)
		r.want("example.com", policy.Secure, 0)
	})
}

func TestARefreshOnCommandThatFailsLowersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Minute)
		for _, s := range []site{{}, {noDNS: true}, {id: "2"}} {
			w.publish("example.com", s)
			r.refresh("example.com", RenewalFailed)
			r.want("example.com", policy.Secure, 0)
			time.Sleep(time.Minute)
		}
		w.set(func() { w.lookTakes, w.fetchTakes = time.Minute, time.Minute })
		go func() { _, _, _ = r.Refresh(t.Context(), dom(t, "example.com")) }()
		time.Sleep(time.Second)
		r.want("example.com", policy.Secure, 0)
	})
}

// There is one writer for a domain at a time, also when commands come.
func TestCommandsWaitForTheFlightInProgress(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.lookTakes = time.Second
		w.fetchTakes = 3 * time.Second
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		wg.Go(func() { r.want("example.com", policy.Secure, 4*time.Second) })
		for range 10 {
			wg.Go(func() {
				time.Sleep(time.Second)
				r.refresh("example.com", RenewalTooSoon)
			})
		}
		time.Sleep(2 * time.Second)
		// Who comes while commands wait joins them.
		wg.Go(func() { r.want("example.com", policy.Secure, 2*time.Second) })
		synctest.Wait()
		if v := r.Inspect(t.Context(), dom(t, "example.com")); len(v.UnderWay) != 11 {
			t.Errorf("%d flights, want 11", len(v.UnderWay))
		}
		wg.Wait()
		if w.top != 1 {
			t.Errorf("%d fetches at a time", w.top)
		}
		r.purge("example.com", true)
		r.gone(w, "example.com")
	})
}

func TestACommandThatWaitsHidesNothingThatIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 10*time.Second)
		var wg sync.WaitGroup
		wg.Go(func() { r.refresh("example.com", RenewalTooSoon) })
		time.Sleep(time.Second)
		// The store has said that it knows nothing.
		r.want("example.com", policy.NotFound, 10*time.Second)
		wg.Wait()
		r.want("example.com", policy.Secure, 0)
	})
}

func TestARefreshThatWaitedForAPurgeDoesNotBringThePolicyBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		w.publish("example.com", site{})
		w.set(func() { w.loadTakes = 2 * time.Second })
		var wg sync.WaitGroup
		wg.Go(func() { r.purge("example.com", true) })
		time.Sleep(time.Second)
		wg.Go(func() { r.refresh("example.com", RenewalAbsent) })
		time.Sleep(2 * time.Second)
		// The purge is done, and the refresh asks the store.
		r.want("example.com", policy.NotFound, time.Second)
		wg.Wait()
	})
}

func TestAPurgeEndsTheRefreshesThatWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = time.Minute
		r := start(t, w, Options{})
		defer r.stop()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := r.Refresh(t.Context(), dom(t, "example.com")); !errors.Is(err, ErrCutShort) {
					t.Errorf("Refresh: %v, want %v", err, ErrCutShort)
				}
			})
		}
		time.Sleep(time.Second)
		for range 3 {
			wg.Go(func() { r.purge("example.com", false) })
		}
		begun := time.Now()
		wg.Wait()
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %s", d)
		}
		r.gone(w, "example.com")
	})
}

func TestCommandsAndTheEndOfTheCache(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		w.fetchTakes = time.Minute
		r := start(t, w, Options{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := r.Refresh(t.Context(), dom(t, "example.com")); !errors.Is(err, ErrCutShort) {
				t.Errorf("Refresh: %v, want %v", err, ErrCutShort)
			}
		})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := r.Refresh(ctx, dom(t, "example.com")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Refresh: %v, want %v", err, context.DeadlineExceeded)
		}
		r.stop()
		wg.Wait()
		if _, _, err := r.Refresh(t.Context(), dom(t, "example.com")); !errors.Is(err, ErrClosed) {
			t.Errorf("Refresh: %v, want %v", err, ErrClosed)
		}
		if _, err := r.Purge(t.Context(), dom(t, "example.com")); !errors.Is(err, ErrClosed) {
			t.Errorf("Purge: %v, want %v", err, ErrClosed)
		}
	})
}
