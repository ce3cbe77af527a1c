package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// RunShared tests a shared store against its contract, as two relays see it.
// Each call of open returns two clients of one new store without records,
// which open closes at the end of its test.
func RunShared(t *testing.T, open func(t *testing.T) (a, b cache.Shared)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, a, b cache.Shared)
	}{
		{"no record is ErrNotFound", testSharedUnknown},
		{"what one saved the other loads, byte for byte", testSharedRoundTrip},
		{"the later fetch wins", testSharedLaterWins},
		{"a fetch of tomorrow gives way", testSharedFuture},
		{"a policy that has ended is not kept", testSharedExpired},
		{"a removed record is not found", testSharedRemove},
		{"all records are removed", testSharedRemoveAll},
		{"domains are told apart", testSharedManyDomains},
		{"another policy is told to others", testSharedNews},
		{"a policy that was only fetched again is not told", testSharedNoNews},
		{"a relay is not told what it saved itself", testSharedOwnNews},
		{"a cancelled call ends", testSharedCancelled},
		{"concurrent use", testSharedConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := open(t)
			c.test(t, a, b)
		})
	}
}

// newsWithin is how long news may take in a test.
const newsWithin = 5 * time.Second

func mustShare(t *testing.T, s cache.Shared, records ...cache.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatalf("Save(%s): %v", r.Domain, err)
		}
	}
}

func wantShared(t *testing.T, s cache.Shared, want cache.Record) {
	t.Helper()
	got, err := s.Load(t.Context(), want.Domain)
	if err != nil || !Equal(got, want) {
		t.Errorf("Load(%s) = %+v, %v, want %+v", want.Domain, brief(got), err, brief(want))
	}
}

func wantNotShared(t *testing.T, s cache.Shared, name string) {
	t.Helper()
	if got, err := s.Load(t.Context(), Domain(t, name)); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load(%s) = %+v, %v, want cache.ErrNotFound", name, brief(got), err)
	}
}

func testSharedUnknown(t *testing.T, a, b cache.Shared) {
	wantNotShared(t, a, "unknown.example")
	wantNotShared(t, b, "unknown.example")
}

func testSharedRoundTrip(t *testing.T, a, b cache.Shared) {
	full := Record(t, "full.example", now.Add(time.Hour))
	full.Failure = policy.Failure{ID: "2", At: now, Count: 3, Kind: "tls", Reason: "certificate \"of\" another host\tü"}
	full.Churn = policy.Churn{Count: 4, Since: now.Add(-time.Minute)}
	odd := Record(t, "odd.example", time.Time{})
	odd.Text = "a\x00b\xff\xfe\xc3(\r\n\n"
	long := Record(t, strings.Repeat("a23456789.", 24)+"example.test0", now)
	long.Text = strings.Repeat("mx: a.example\r\n", 4369) + "!" // 64 KiB
	for _, r := range []cache.Record{full, odd, long} {
		mustShare(t, a, r)
		wantShared(t, b, r)
		wantShared(t, a, r)
	}
}

func testSharedLaterWins(t *testing.T, a, b cache.Shared) {
	r := Record(t, "a.example", now)
	mustShare(t, a, r)
	earlier := r
	earlier.Fetched, earlier.ID = r.Fetched.Add(-time.Minute), "0"
	mustShare(t, b, earlier)
	wantShared(t, a, r)
	same := r
	same.ID = "2"
	mustShare(t, b, same)
	wantShared(t, a, same)
	later := r
	later.Fetched, later.ID = r.Fetched.Add(time.Minute), "3"
	mustShare(t, b, later)
	wantShared(t, a, later)
}

func testSharedFuture(t *testing.T, a, b cache.Shared) {
	future := Record(t, "a.example", now)
	future.Fetched = time.Now().Add(24 * time.Hour).Truncate(time.Second)
	future.Expires = future.Fetched.Add(7 * 24 * time.Hour)
	mustShare(t, a, future)
	r := Record(t, "a.example", now)
	mustShare(t, b, r)
	wantShared(t, a, r)
}

func testSharedExpired(t *testing.T, a, b cache.Shared) {
	r := Record(t, "a.example", now)
	r.Fetched, r.Expires = now.Add(-2*time.Hour), now.Add(-time.Hour)
	mustShare(t, a, r)
	wantNotShared(t, b, "a.example")
	wantNotShared(t, a, "a.example")
}

func testSharedRemove(t *testing.T, a, b cache.Shared) {
	first, other := Record(t, "a.example", now), Record(t, "b.example", now)
	mustShare(t, a, first, other)
	for range 2 {
		if err := b.Remove(t.Context(), first.Domain); err != nil {
			t.Fatal(err)
		}
	}
	wantNotShared(t, a, "a.example")
	wantShared(t, a, other)
	mustShare(t, a, first)
	wantShared(t, b, first)
}

func testSharedRemoveAll(t *testing.T, a, b cache.Shared) {
	mustShare(t, a, Record(t, "a.example", now), Record(t, "b.example", now), Record(t, "c.example", now))
	if n, err := b.RemoveAll(t.Context()); n != 3 || err != nil {
		t.Errorf("RemoveAll = %d, %v, want 3", n, err)
	}
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		wantNotShared(t, a, name)
	}
	if n, err := b.RemoveAll(t.Context()); n != 0 || err != nil {
		t.Errorf("RemoveAll of nothing = %d, %v", n, err)
	}
}

func testSharedManyDomains(t *testing.T, a, b cache.Shared) {
	names := []string{"a.example", "ab.example", "b.example", "a.b.example", "xn--bcher-kva.example"}
	for _, name := range names {
		mustShare(t, a, Record(t, name, now))
	}
	for _, name := range names {
		wantShared(t, b, Record(t, name, now))
	}
}

// awaitNews returns the domains that s is told of until the given one is among
// them.
func awaitNews(t *testing.T, s cache.Shared, last policy.Domain) []policy.Domain {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), newsWithin)
	defer cancel()
	var all []policy.Domain
	for {
		news, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("no news of %s: %v; there was %v", last, err, all)
		}
		if news.Behind {
			continue
		}
		all = append(all, news.Changed)
		if news.Changed == last {
			return all
		}
	}
}

// ready waits until b is told what a saves.
func ready(t *testing.T, a, b cache.Shared) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), newsWithin)
	defer cancel()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			if news, err := b.Next(ctx); err != nil || !news.Behind {
				return
			}
		}
	}()
	r := Record(t, "ready.example", now)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		r.Fetched, r.ID = r.Fetched.Add(time.Second), r.ID+"0"
		mustShare(t, a, r)
		select {
		case <-heard:
			return
		case <-ticker.C:
		}
	}
}

func testSharedNews(t *testing.T, a, b cache.Shared) {
	ready(t, a, b)
	r := Record(t, "a.example", now)
	mustShare(t, a, r)
	awaitNews(t, b, r.Domain)
	r.Text += "\n"
	mustShare(t, a, r)
	awaitNews(t, b, r.Domain)
	r.ID = "2"
	mustShare(t, a, r)
	awaitNews(t, b, r.Domain)
}

func testSharedNoNews(t *testing.T, a, b cache.Shared) {
	ready(t, a, b)
	r := Record(t, "a.example", now)
	mustShare(t, a, r)
	awaitNews(t, b, r.Domain)
	again := r
	again.Fetched, again.Expires = r.Fetched.Add(time.Minute), r.Expires.Add(time.Minute)
	older := r
	older.Fetched, older.ID = r.Fetched.Add(-time.Minute), "0"
	last := Record(t, "last.example", now)
	mustShare(t, a, again, older, last)
	for _, d := range awaitNews(t, b, last.Domain) {
		if d == r.Domain {
			t.Errorf("%s was told, though its policy is the same", d)
		}
	}
}

func testSharedOwnNews(t *testing.T, a, b cache.Shared) {
	ready(t, a, b)
	ready(t, b, a)
	own, other := Record(t, "own.example", now), Record(t, "other.example", now)
	mustShare(t, a, own)
	mustShare(t, b, other)
	for _, d := range awaitNews(t, a, other.Domain) {
		if d == own.Domain {
			t.Errorf("%s was told to the relay that had saved it", d)
		}
	}
}

func testSharedCancelled(t *testing.T, a, _ cache.Shared) {
	r := Record(t, "a.example", now)
	mustShare(t, a, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Load(ctx, r.Domain); errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
		t.Errorf("Load with a cancelled context: %v, which says something about the domain", err)
	}
	if news, err := a.Next(ctx); err == nil && news == (cache.News{}) {
		t.Error("Next with a cancelled context returned nothing, and no error")
	}
	wantShared(t, a, r)
}

func testSharedConcurrent(t *testing.T, a, b cache.Shared) {
	var wg sync.WaitGroup
	last := Record(t, "a.example", now)
	last.Fetched = last.Fetched.Add(50 * time.Second)
	for i := range 50 {
		wg.Go(func() {
			r := Record(t, "a.example", now)
			r.Fetched = r.Fetched.Add(time.Duration(i+1) * time.Second)
			s := []cache.Shared{a, b}[i%2]
			if err := s.Save(t.Context(), r); err != nil {
				t.Errorf("Save: %v", err)
			}
			if got, err := s.Load(t.Context(), r.Domain); err != nil || got.Fetched.Before(r.Fetched) {
				t.Errorf("Load = %v, %v after a Save of %v", got.Fetched, err, r.Fetched)
			}
		})
	}
	wg.Wait()
	wantShared(t, a, last)
	wantShared(t, b, last)
}
