package memstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/cache/storetest"
)

var _ cache.Store = (*memstore.Store)(nil)

func TestContract(t *testing.T) {
	storetest.Run(t,
		func(*testing.T) cache.Store { return memstore.New(memstore.Options{}) },
		storetest.WithLimit(memstore.ErrFull, func(*testing.T) cache.Store {
			return memstore.New(memstore.Options{MaxBytes: 4 << 20})
		}))
}

func TestFullStoreRefusesAnotherPolicy(t *testing.T) {
	s := memstore.New(memstore.Options{MaxBytes: 4000})
	now := time.Now()
	var n int
	var err error
	for ; err == nil; n++ {
		err = s.Save(t.Context(), storetest.Record(t, fmt.Sprintf("d%d.example", n), now))
	}
	if !errors.Is(err, memstore.ErrFull) || n < 5 {
		t.Fatalf("Save number %d: %v, want ErrFull, and not before the fifth", n, err)
	}
	before := s.Stats()
	if before.Bytes > 4000 || before.Policies != n-1 {
		t.Errorf("Stats() = %+v with a limit of 4000 and %d saved", before, n-1)
	}
	if err := s.Save(t.Context(), storetest.Failed(t, "failed.example", now)); !errors.Is(err, memstore.ErrFull) {
		t.Errorf("Save of a failure in a full store: %v, want ErrFull", err)
	}
	if err := s.Save(t.Context(), storetest.Record(t, "d0.example", now.Add(time.Hour))); err != nil {
		t.Errorf("to replace what is there: %v", err)
	}
	if err := s.Remove(t.Context(), storetest.Domain(t, "d1.example")); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), storetest.Record(t, "dx.example", now)); err != nil {
		t.Errorf("after a removal: %v", err)
	}
	if after := s.Stats(); after != before {
		t.Errorf("Stats() = %+v, want %+v", after, before)
	}
}

func TestFailuresGiveWayToPolicies(t *testing.T) {
	s := memstore.New(memstore.Options{MaxBytes: 6000})
	now := time.Now()
	for i := range 10 {
		if err := s.Save(t.Context(), storetest.Failed(t, fmt.Sprintf("f%d.example", i), now.Add(-time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	n := 0
	for ; err == nil; n++ {
		err = s.Save(t.Context(), storetest.Record(t, fmt.Sprintf("d%d.example", n), now))
		if st := s.Stats(); st.Bytes > 6000 || err == nil && st.Policies != n+1 {
			t.Fatalf("Stats() = %+v after %d policies", st, n+1)
		}
		_, oldest := s.Load(t.Context(), storetest.Domain(t, "f9.example"))
		if st := s.Stats(); st.Failures < 10 && oldest == nil {
			t.Fatal("a failure was dropped, but not the oldest")
		}
	}
	if st := s.Stats(); !errors.Is(err, memstore.ErrFull) || st.Failures != 0 {
		t.Errorf("%v with %+v, want ErrFull when no failure is left", err, st)
	}
}

func TestTheOldestFailureGivesWay(t *testing.T) {
	s := memstore.New(memstore.Options{MaxFailures: 3})
	now := time.Now()
	if err := s.Save(t.Context(), storetest.Record(t, "policy.example", now)); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{3, 1, 5, 2, 4} {
		if err := s.Save(t.Context(), storetest.Failed(t, fmt.Sprintf("f%d.example", i), now.Add(time.Duration(i)*time.Second))); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for i := range 6 {
		name := fmt.Sprintf("f%d.example", i)
		if _, err := s.Load(t.Context(), storetest.Domain(t, name)); err == nil {
			left = append(left, name)
		}
	}
	if want := []string{"f3.example", "f4.example", "f5.example"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
	if st := s.Stats(); st.Policies != 1 {
		t.Errorf("Stats() = %+v: a policy gave way", st)
	}
}

func TestPurgeForgetsWhatIsOfNoUse(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		start := time.Now()
		ended := storetest.Record(t, "ended.example", time.Time{})
		ended.Fetched, ended.Expires = start.Add(-time.Hour), start
		lasting := storetest.Record(t, "lasting.example", time.Time{})
		lasting.Fetched, lasting.Expires = start, start.Add(100*day)
		for _, r := range []cache.Record{ended, lasting, storetest.Failed(t, "failed.example", start)} {
			if err := s.Save(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		for _, step := range []struct {
			name               string
			pass, jump         time.Duration
			policies, failures int
		}{
			{"at once", 0, 0, 2, 1},
			{"a second before a day", day - time.Second, 0, 2, 1},
			{"after a day", time.Second, 0, 2, 0},
			{"a jump of the clock is not running time", day, 1000 * day, 2, 0},
			{"nor is a jump back", day, -1000 * day, 2, 0},
			{"a second before a month", 27*day - time.Second, 0, 2, 0},
			{"after a month", time.Second, 0, 1, 0},
			{"what only seemed to have ended is kept", 2 * day, 0, 1, 0},
			{"when it has ended", 70 * day, 0, 1, 0},
			{"a month later", 30 * day, 0, 0, 0},
		} {
			time.Sleep(step.pass)
			if _, err := s.Purge(t.Context(), time.Now().Add(step.jump)); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); st.Policies != step.policies || st.Failures != step.failures {
				t.Errorf("%s: %+v, want %d policies and %d failures", step.name, st, step.policies, step.failures)
			}
		}
	})
}

func TestPurgeGoesInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New(memstore.Options{})
		r := storetest.Record(t, "policy.example", time.Time{})
		r.Expires = time.Now()
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Purge(t.Context(), time.Now()); n != 0 || err != nil {
			t.Errorf("Purge() = %d, %v, want 0: the policy is only marked", n, err)
		}
		for i := range 1500 {
			if err := s.Save(t.Context(), storetest.Failed(t, fmt.Sprintf("f%d.example", i), time.Now())); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * 24 * time.Hour)
		for _, want := range []int{1000, 501, 0} {
			if got, err := s.Purge(t.Context(), time.Now()); got != want || err != nil {
				t.Errorf("Purge() = %d, %v, want %d", got, err, want)
			}
		}
		if st := s.Stats(); st != (memstore.Stats{}) {
			t.Errorf("Stats() = %+v, want nothing left", st)
		}
	})
}

func TestDueAgreesWithASort(t *testing.T) {
	s := memstore.New(memstore.Options{})
	now := time.Unix(1_800_000_000, 0)
	random := rand.New(rand.NewPCG(1, 2))
	refresh := map[string]time.Time{}
	for range 3000 {
		name := fmt.Sprintf("d%d.example", random.IntN(500))
		if random.IntN(3) == 0 {
			delete(refresh, name)
			if err := s.Remove(t.Context(), storetest.Domain(t, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		refresh[name] = now.Add(time.Duration(random.IntN(1000)-500) * time.Second)
		if err := s.Save(t.Context(), storetest.Record(t, name, refresh[name])); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for name, at := range refresh {
		if !at.After(now) {
			want = append(want, fmt.Sprintf("%d %s", at.Unix(), name))
		}
	}
	slices.Sort(want)
	due, err := s.Due(t.Context(), now, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range due {
		got = append(got, fmt.Sprintf("%d %s", refresh[d.String()].Unix(), d))
	}
	if !slices.Equal(got, want) || len(want) < 50 {
		t.Errorf("Due() returned %d domains that are not the %d in a sorted list", len(got), len(want))
	}
}
