package boltstore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

var damages = flag.Int("damages", 40, "how many files are damaged at random")

// sample is a store with records of all sizes, and what is in it.
type sample struct {
	image   []byte
	records map[string]cache.Record
	// before is the record that the last commit replaced. If a page of that
	// commit is gone, the file is as it was before: it looks as if the machine
	// had stopped in the middle of it.
	before cache.Record
}

func newSample(t *testing.T) sample {
	t.Helper()
	o := Options{Path: filepath.Join(t.TempDir(), "sample.db")}
	s := open(t, o)
	sm := sample{records: map[string]cache.Record{}}
	now := time.Now()
	for i := range 400 {
		r := storetest.Record(t, fmt.Sprintf("d%d.example", i), now.Add(time.Duration(i)*time.Second))
		if i%40 == 0 {
			r.Text = strings.Repeat("mx: mx.example.com\n", 1+i*8)
		}
		if i%50 == 1 {
			r = storetest.Failed(t, r.Domain.String(), now)
		}
		sm.records[r.Domain.String()] = r
	}
	if err := saveTogether(t, s, slices.Collect(maps.Values(sm.records))); err != nil {
		t.Fatal(err)
	}
	// Some commits more, so that there are free pages.
	for i := range 20 {
		r := sm.records[fmt.Sprintf("d%d.example", i*7)]
		sm.before = r
		r.ID = "2"
		if !r.Fetched.IsZero() {
			r.Fetched = r.Fetched.Add(time.Minute)
		}
		sm.records[r.Domain.String()] = r
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	image, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	sm.image = image
	return sm
}

// write makes a file of an image.
func writeImage(t *testing.T, image []byte) Options {
	t.Helper()
	o := Options{Path: filepath.Join(t.TempDir(), "policies.db"), Log: zap.NewNop()}
	if err := os.WriteFile(o.Path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// use does everything with a store that may be damaged, and checks that each
// record is what it was, or is called damaged. It returns how many were right.
func (sm sample) use(t *testing.T, s *Store) int {
	t.Helper()
	right := 0
	for name, want := range sm.records {
		got, err := s.Load(t.Context(), want.Domain)
		switch {
		case err == nil && storetest.Equal(got, want):
			right++
		case err == nil && storetest.Equal(got, sm.before):
		case err == nil:
			t.Errorf("Load(%s) is another record: id %q, fetched %v", name, got.ID, got.Fetched)
		case !errors.Is(err, cache.ErrDamaged):
			t.Errorf("Load(%s): %v, want the record or cache.ErrDamaged", name, err)
		}
	}
	if _, err := s.Due(t.Context(), time.Now(), 500); err != nil {
		t.Errorf("Due: %v", err)
	}
	if _, err := s.Scan(t.Context(), policy.Domain{}, 500); err != nil && !errors.Is(err, errUncopied) {
		t.Errorf("Scan: %v", err)
	}
	fresh := storetest.Record(t, "fresh.example", time.Now())
	if err := s.Save(t.Context(), fresh); err != nil {
		t.Errorf("Save: %v", err)
	}
	if got, err := s.Load(t.Context(), fresh.Domain); err != nil || !storetest.Equal(got, fresh) {
		t.Errorf("Load of what was saved after the damage: %v", err)
	}
	for i := range 5 {
		r := sm.records[fmt.Sprintf("d%d.example", i*80)]
		if err := s.Save(t.Context(), r); err != nil {
			t.Errorf("Save of a known domain: %v", err)
		}
	}
	if err := s.Remove(t.Context(), fresh.Domain); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := s.Purge(t.Context(), time.Now()); err != nil {
		t.Errorf("Purge: %v", err)
	}
	return right
}

func TestTruncatedFile(t *testing.T) {
	sm := newSample(t)
	sizes := []int{0, 1, 15, 16, 79, 80, 100, 4095, 4096, 4097, 8191, 8192, 8193, 12288, 16384}
	for size := 5 * 4096; size < len(sm.image); size += 37 * 1000 {
		sizes = append(sizes, size)
	}
	for _, size := range append(sizes, len(sm.image)-1) {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := open(t, writeImage(t, sm.image[:size]))
			sm.use(t, s)
		})
	}
}

func TestTruncatedWhileOpen(t *testing.T) {
	sm := newSample(t)
	for _, size := range []int{0, 5000, 8192, 40_000, len(sm.image) / 2} {
		for _, first := range []string{"load", "save"} {
			t.Run(fmt.Sprintf("%s after %d", first, size), func(t *testing.T) {
				o := writeImage(t, sm.image)
				s := open(t, o)
				if err := os.Truncate(o.Path, int64(size)); err != nil {
					t.Fatal(err)
				}
				if first == "save" {
					if err := s.Save(t.Context(), sm.records["d5.example"]); err != nil {
						t.Errorf("Save: %v", err)
					}
				}
				sm.use(t, s)
			})
		}
	}
}

// hurt overwrites a random part of an image in a random way.
func hurt(random *rand.Rand, image []byte) (at int, with []byte) {
	lengths := []int{1, 2, 4, 8, 16, 64, 512, 4096, 20_000}
	n := min(lengths[random.IntN(len(lengths))], len(image))
	at = random.IntN(len(image) - n + 1)
	if random.IntN(3) == 0 {
		at &^= 4095 // the head of a page
		at = min(at, len(image)-n)
	}
	with = make([]byte, n)
	switch random.IntN(4) {
	case 0: // zeros
	case 1:
		copy(with, image[random.IntN(len(image)-n+1):]) // another part
	case 2:
		copy(with, image[at:at+n])
		with[random.IntN(n)] ^= 1 << random.IntN(8)
	default:
		for i := range with {
			with[i] = byte(random.Uint32())
		}
	}
	return at, with
}

func TestOverwrittenFile(t *testing.T) {
	sm := newSample(t)
	random := rand.New(rand.NewPCG(3, 4))
	total := 0
	for i := range *damages {
		at, with := hurt(random, sm.image)
		t.Run(fmt.Sprintf("%d bytes at %d", len(with), at), func(t *testing.T) {
			image := bytes.Clone(sm.image)
			copy(image[at:], with)
			o := writeImage(t, image)
			if i%2 == 0 {
				total += sm.use(t, open(t, o))
				return
			}
			o = writeImage(t, sm.image)
			s := open(t, o)
			f, err := os.OpenFile(o.Path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(with, int64(at)); err != nil {
				t.Fatal(err)
			}
			total += sm.use(t, s)
		})
	}
	if all := *damages * len(sm.records); total < all*8/10 {
		t.Errorf("%d of %d records were read, want at least 80 of 100", total, all)
	}
}

// A disk may have put a part of another file where the first pages were. What is
// behind them says that the file is ours, and is copied.
func TestAStoreThatBeginsWithTextIsDamaged(t *testing.T) {
	sm := newSample(t)
	for _, pages := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d pages", pages), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := writeImage(t, sm.image)
				overwrite(t, o.Path, 0, bytes.Repeat([]byte("text"), pages*os.Getpagesize()/4))
				s := open(t, o)
				waitSalvaged(t, s)
				if got := sm.use(t, s); got < len(sm.records)*9/10 {
					t.Errorf("%d of %d records were found", got, len(sm.records))
				}
			})
		})
	}
}

func TestLeavesWithoutABranchAreFound(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image)
		damageBranch(t, o.Path)
		s := open(t, o)
		if _, err := s.Load(t.Context(), storetest.Domain(t, "d7.example")); err != nil && !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("Load: %v", err)
		}
		waitSalvaged(t, s)
		if got := sm.use(t, s); got != len(sm.records) {
			t.Errorf("%d of %d records were found", got, len(sm.records))
		}
		unknown := storetest.Domain(t, "unknown.example")
		if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("Load of an unknown domain after damage: %v, want cache.ErrDamaged", err)
		}
		time.Sleep(salvageWindow)
		if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load of an unknown domain a minute later: %v, want cache.ErrNotFound", err)
		}
		aside, err := filepath.Glob(o.Path + ".damaged-*")
		if err != nil || len(aside) != 1 {
			t.Errorf("set aside are %v, %v, want one file", aside, err)
		}
	})
}

func TestDamagedIndexLosesNothing(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image)
		s := open(t, o)
		v := s.state.Load().cur.view.Load()
		overwrite(t, o.Path, int64(v.buckets[bucketDue].root)*int64(v.size)+8, []byte{0xff, 0xff})
		if _, err := s.Due(t.Context(), time.Now().Add(100*365*24*time.Hour), 1000); err != nil {
			t.Errorf("Due: %v", err)
		}
		waitSalvaged(t, s)
		if due, err := s.Due(t.Context(), time.Now().Add(100*365*24*time.Hour), 1000); err != nil || len(due) != 392 {
			t.Errorf("Due after the copy: %d domains, %v, want 392", len(due), err)
		}
		if _, err := s.Load(t.Context(), storetest.Domain(t, "unknown.example")); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load of an unknown domain: %v, want cache.ErrNotFound: nothing was lost", err)
		}
		if got := sm.use(t, s); got != len(sm.records) {
			t.Errorf("%d of %d records were found", got, len(sm.records))
		}
		st, err := s.Stats(t.Context())
		if err != nil || st.Records != 400 || st.Failures != 8 || st.Damaged != 0 {
			t.Errorf("Stats() = %+v, %v, want 400 records, 8 of them failures", st, err)
		}
	})
}

func TestOneDamagedRecordIsOneDamagedDomain(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, bytes.ReplaceAll(sm.image, []byte("mx: mx.d9.example\n"), []byte("mx: mx.e9.example\n")))
	s := open(t, o)
	bad := storetest.Domain(t, "d9.example")
	if _, err := s.Load(t.Context(), bad); !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("Load of the damaged record: %v, want cache.ErrDamaged", err)
	}
	if _, err := s.Load(t.Context(), storetest.Domain(t, "unknown.example")); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load of an unknown domain: %v, want cache.ErrNotFound", err)
	}
	if got := sm.use(t, s); got != len(sm.records)-1 {
		t.Errorf("%d records were found, want all but one of %d", got, len(sm.records))
	}
	listed, err := s.Scan(t.Context(), policy.Domain{}, 1000)
	if err != nil || len(listed) != len(sm.records) {
		t.Fatalf("Scan: %d records, %v, want %d", len(listed), err, len(sm.records))
	}
	for i := range listed {
		if r := &listed[i]; r.Unreadable() != (r.Domain == bad) {
			t.Errorf("%s is listed as unreadable: %t", r.Domain, r.Unreadable())
		}
	}
	r := sm.records["d9.example"]
	r.Refresh = r.Refresh.Add(time.Hour)
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(t.Context(), bad); err != nil || !storetest.Equal(got, r) {
		t.Errorf("Load after it was saved again: %v", err)
	}
	due, err := s.Due(t.Context(), time.Now().Add(100*365*24*time.Hour), 1000)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range due {
		if d == bad {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the domain is due %d times, want once", n)
	}
}

func TestSalvageGoesOnAfterARestart(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageBranch(t, o.Path)
	s := uncopied(t, o)
	sm.use(t, s)
	removed := storetest.Domain(t, "d3.example")
	if err := s.Remove(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	failed := storetest.Failed(t, "d11.example", time.Now())
	if err := s.Save(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		waitSalvaged(t, s)
		delete(sm.records, "d3.example")
		if got := sm.use(t, s); got != len(sm.records) {
			t.Errorf("%d of %d records were found", got, len(sm.records))
		}
		if _, err := s.Load(t.Context(), removed); err == nil {
			t.Error("a removed domain came back")
		}
	})
}

// A domain that was removed while a damaged file was copied stays so, even if the
// new file is damaged in turn; one that was learned anew since stays too.
func TestRemovedDomainsStayRemovedWhateverIsDamaged(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	removed, renewed := storetest.Domain(t, "d3.example"), storetest.Domain(t, "d4.example")
	for _, d := range []policy.Domain{removed, renewed} {
		if err := s.Remove(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	want := storetest.Record(t, "d4.example", time.Now().Add(time.Minute))
	want.Fetched = want.Fetched.Add(-24 * time.Hour) // earlier than what was removed
	mustSave(t, s, want)
	for i := range 40 { // enough for pages of their own
		r := storetest.Record(t, fmt.Sprintf("new%d.example", i), time.Now())
		mustSave(t, s, r)
		sm.records[r.Domain.String()] = r
	}
	mustClose(t, s)
	damageIndex(t, o.Path)

	check := func(s *Store, when string) {
		t.Helper()
		if got, err := s.Load(t.Context(), removed); err == nil {
			t.Errorf("%s: a removed domain came back: %+v", when, got)
		}
		if got, err := s.Load(t.Context(), renewed); err != nil || !storetest.Equal(got, want) {
			t.Errorf("%s: Load(%s) = %+v, %v, want what was learned last", when, renewed, got, err)
		}
	}
	s = uncopied(t, o)
	findDamage(t, s)
	if n := len(s.state.Load().old); n != 2 {
		t.Fatalf("%d files are damaged, want 2", n)
	}
	check(s, "before the copy")
	mustClose(t, s)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		waitSalvaged(t, s)
		check(s, "after the copy")
		delete(sm.records, "d3.example")
		sm.records["d4.example"] = want
		if got := sm.use(t, s); got != len(sm.records) {
			t.Errorf("%d of %d records were found", got, len(sm.records))
		}
	})
}

func TestAFailureTakesNoPlaceOfASalvagedPolicy(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image)
		damageBranch(t, o.Path)
		s := open(t, o)
		want := sm.records["d11.example"]
		if _, err := s.Load(t.Context(), storetest.Domain(t, "unknown.example")); !errors.Is(err, cache.ErrDamaged) {
			t.Fatalf("Load: %v, want cache.ErrDamaged", err)
		}
		waitSalvaged(t, s)
		failed := storetest.Failed(t, "d11.example", time.Now())
		if err := s.Save(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
		want.Failure, want.LastUse = failed.Failure, failed.LastUse
		got, err := s.Load(t.Context(), want.Domain)
		if err != nil || !storetest.Equal(got, want) {
			t.Errorf("Load = %+v, %v, want the policy with the failure", got, err)
		}
	})
}

func TestAFewDamagedFilesAreKept(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image)
		for range 6 {
			damageBranch(t, o.Path)
			s := open(t, o)
			if _, err := s.Load(t.Context(), storetest.Domain(t, "d7.example")); err != nil && !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("Load: %v", err)
			}
			waitSalvaged(t, s)
			if got := sm.use(t, s); got != len(sm.records) {
				t.Errorf("%d of %d records were found", got, len(sm.records))
			}
			mustClose(t, s)
			time.Sleep(time.Second)
		}
		aside, err := filepath.Glob(o.Path + ".damaged-*")
		if err != nil || len(aside) != keepDamaged {
			t.Errorf("set aside are %v, %v, want %d files", aside, err, keepDamaged)
		}
	})
}
