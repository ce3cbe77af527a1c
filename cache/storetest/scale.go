package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache"
)

// Sizes of the tests with many records.
const (
	manyDomains = 600
	savers      = 16
	rounds      = 12
)

func testManyDomains(t *testing.T, s cache.Store) {
	var wg sync.WaitGroup
	records := make([]cache.Record, manyDomains)
	for i := range records {
		records[i] = Record(t, fmt.Sprintf("d%d.example", i), now.Add(time.Duration(i)*time.Second))
	}
	for part := range 20 {
		wg.Go(func() {
			for i := part; i < manyDomains; i += 20 {
				if err := s.Save(t.Context(), records[i]); err != nil {
					t.Errorf("Save(%s): %v", records[i].Domain, err)
				}
			}
		})
	}
	wg.Wait()
	for i := 0; i < manyDomains; i += 3 {
		if err := s.Remove(t.Context(), records[i].Domain); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range records {
		if i%3 == 0 {
			wantNone(t, s, r.Domain)
			continue
		}
		wantRecord(t, s, r)
	}
	// Names that are a part of one another.
	for _, name := range []string{"d1.exampl", "d1.example.com", "1.example", "ad1.example", "d10000.example"} {
		wantNone(t, s, Domain(t, name))
	}
	wantDue(t, s, now.Add(5*time.Second), 10, "d1.example", "d2.example", "d4.example", "d5.example")
}

func testDueOrder(t *testing.T, s cache.Store) {
	// Times of different lengths, so that an order of texts would show.
	for _, d := range []time.Duration{-10, -9, -1, 0, -100, 1, -1e8, -11} {
		r := Record(t, "r"+strconv.Itoa(int(-d)+1)+".example", now.Add(d*time.Second))
		mustSave(t, s, r)
	}
	wantDue(t, s, now, 100, "r100000001.example", "r101.example", "r12.example", "r11.example",
		"r10.example", "r2.example", "r1.example")
	wantDue(t, s, now.Add(-10*time.Second), 100, "r100000001.example", "r101.example", "r12.example", "r11.example")
	wantDue(t, s, now.Add(time.Second), 100, "r100000001.example", "r101.example", "r12.example", "r11.example",
		"r10.example", "r2.example", "r1.example", "r0.example")
	wantDue(t, s, now.Add(-time.Hour*24*365*10), 100)
}

func testDueLimit(t *testing.T, s cache.Store) {
	for i := range 5 {
		mustSave(t, s, Record(t, fmt.Sprintf("d%d.example", i), now.Add(time.Duration(i)*time.Second)))
	}
	later := now.Add(time.Minute)
	wantDue(t, s, later, 0)
	wantDue(t, s, later, 1, "d0.example")
	wantDue(t, s, later, 3, "d0.example", "d1.example", "d2.example")
	wantDue(t, s, later, 5, "d0.example", "d1.example", "d2.example", "d3.example", "d4.example")
	wantDue(t, s, later, 1<<20, "d0.example", "d1.example", "d2.example", "d3.example", "d4.example")
}

func testDueAfterSave(t *testing.T, s cache.Store) {
	a, b := Record(t, "a.example", now.Add(-2*time.Second)), Record(t, "b.example", now.Add(-time.Second))
	mustSave(t, s, a, b)
	wantDue(t, s, now, 10, "a.example", "b.example")
	a.Refresh = now
	mustSave(t, s, a)
	wantDue(t, s, now, 10, "b.example", "a.example")
	a.Refresh = now.Add(time.Second)
	mustSave(t, s, a)
	wantDue(t, s, now, 10, "b.example")
	wantDue(t, s, a.Refresh, 10, "b.example", "a.example")
	mustSave(t, s, a, a)
	wantDue(t, s, a.Refresh, 10, "b.example", "a.example")
	a.Refresh = time.Time{}
	mustSave(t, s, a)
	wantDue(t, s, now.Add(time.Hour), 10, "b.example")
}

func testDueAfterRemove(t *testing.T, s cache.Store) {
	a, b := Record(t, "a.example", now), Record(t, "b.example", now.Add(time.Second))
	mustSave(t, s, a, b)
	if err := s.Remove(t.Context(), a.Domain); err != nil {
		t.Fatal(err)
	}
	wantDue(t, s, now.Add(time.Hour), 10, "b.example")
	mustSave(t, s, a)
	wantDue(t, s, now.Add(time.Hour), 10, "a.example", "b.example")
}

func testDueNever(t *testing.T, s cache.Store) {
	mustSave(t, s, Record(t, "never.example", time.Time{}), Failed(t, "failed.example", now))
	wantDue(t, s, now.Add(100*365*24*time.Hour), 10)
}

// testConcurrent has several goroutines save, load, remove and ask what is
// due. Each has domains of its own, which it must find as it left them, and
// all share one, of which nobody may see anything but a whole record.
func testConcurrent(t *testing.T, s cache.Store) {
	var wg sync.WaitGroup
	for g := range savers {
		wg.Go(func() {
			for i := range rounds {
				useOwn(t, s, g, i)
				useShared(t, s, g, i)
			}
		})
	}
	wg.Wait()
	due, err := s.Due(t.Context(), now, savers*rounds)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, d := range due {
		if seen[d.String()] {
			t.Errorf("%s is due twice", d)
		}
		seen[d.String()] = true
	}
	if len(due) < savers*rounds/2 {
		t.Errorf("%d are due, want at least %d", len(due), savers*rounds/2)
	}
}

func useOwn(t *testing.T, s cache.Store, g, i int) {
	own := Record(t, fmt.Sprintf("own%d-%d.example", g, i), now)
	if err := s.Save(t.Context(), own); err != nil {
		t.Errorf("Save(%s): %v", own.Domain, err)
		return
	}
	wantRecord(t, s, own)
	if i%2 == 0 {
		return
	}
	if err := s.Remove(t.Context(), own.Domain); err != nil {
		t.Errorf("Remove(%s): %v", own.Domain, err)
	}
	wantNone(t, s, own.Domain)
}

func useShared(t *testing.T, s cache.Store, g, i int) {
	shared := Record(t, "shared.example", now.Add(time.Duration(g)*time.Second))
	shared.ID = strconv.Itoa(g)
	var err error
	if i%5 == 4 {
		err = s.Remove(t.Context(), shared.Domain)
	} else {
		err = s.Save(t.Context(), shared)
	}
	if err != nil {
		t.Errorf("writing the shared record: %v", err)
	}
	got, err := s.Load(t.Context(), shared.Domain)
	if errors.Is(err, cache.ErrNotFound) {
		return
	}
	if err != nil || got.Refresh.Sub(now) != mustSeconds(got.ID) {
		t.Errorf("Load(%s) = %+v, %v, not a record that was saved", shared.Domain, brief(got), err)
	}
	if _, err := s.Due(t.Context(), now, 5); err != nil {
		t.Errorf("Due: %v", err)
	}
}

// mustSeconds reads the number of a goroutine as the seconds that its record
// carries.
func mustSeconds(id string) time.Duration {
	n, err := strconv.Atoi(id)
	if err != nil {
		return -1
	}
	return time.Duration(n) * time.Second
}
