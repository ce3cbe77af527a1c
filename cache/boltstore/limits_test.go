package boltstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
)

// large makes a record of about size bytes.
func large(t *testing.T, name string, size int) cache.Record {
	t.Helper()
	r := storetest.Record(t, name, due)
	r.Text = strings.Repeat("x", size)
	return r
}

func TestAFullStoreTakesNoNewDomains(t *testing.T) {
	o := options(t)
	o.MaxBytes = 4 << 20
	s := open(t, o)
	var err error
	n := 0
	for ; err == nil; n++ {
		err = s.Save(t.Context(), large(t, fmt.Sprintf("d%d.example", n), 8000))
	}
	n-- // the last was not saved
	if !errors.Is(err, ErrFull) || n < 200 {
		t.Fatalf("Save number %d: %v, want ErrFull, and not before number 200", n, err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 3 * n {
		name := fmt.Sprintf("d%d.example", random.IntN(n))
		if err := s.Save(t.Context(), large(t, name, 7500+random.IntN(1000))); err != nil {
			t.Fatalf("to replace %s, number %d: %v", name, i, err)
		}
	}
	if err := s.Save(t.Context(), large(t, "new.example", 100)); !errors.Is(err, ErrFull) {
		t.Errorf("Save of a new domain: %v, want ErrFull", err)
	}
	for i := range n {
		if _, err := s.Load(t.Context(), storetest.Domain(t, fmt.Sprintf("d%d.example", i))); err != nil {
			t.Errorf("Load: %v", err)
		}
	}
	if info, err := os.Stat(o.Path); err != nil || info.Size() > o.MaxBytes {
		t.Errorf("the file has %d bytes, %v, want at most %d", info.Size(), err, o.MaxBytes)
	}
	for i := range 50 {
		if err := s.Remove(t.Context(), storetest.Domain(t, fmt.Sprintf("d%d.example", i))); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, s, large(t, "new.example", 100))
}

func TestTheFileItselfIsTheLastLimit(t *testing.T) {
	o := options(t)
	o.MaxBytes = 1 << 20
	s := open(t, o)
	var err error
	saved := map[string]cache.Record{}
	for i := 0; err == nil && i < 1000; i++ {
		r := storetest.Record(t, fmt.Sprintf("d%d.example", i), due)
		if err = s.Save(t.Context(), r); err == nil {
			saved[r.Domain.String()] = r
		}
	}
	// Replacing small records by large ones must end, and leave all sound.
	err = nil
	for name := range saved {
		r := large(t, name, 60_000)
		if err = s.Save(t.Context(), r); err != nil {
			break
		}
		saved[name] = r
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("Save: %v, want ErrFull", err)
	}
	for _, r := range saved {
		wantRecord(t, s, r)
	}
	for name, r := range saved {
		if len(r.Text) == 60_000 {
			saved[name] = storetest.Record(t, r.Domain.String(), due)
			mustSave(t, s, saved[name])
		}
	}
	for _, r := range saved {
		wantRecord(t, s, r)
	}
	if info, err := os.Stat(o.Path); err != nil || info.Size() > o.MaxBytes {
		t.Errorf("the file has %d bytes, %v, want at most %d", info.Size(), err, o.MaxBytes)
	}
}

func TestTheOldestFailuresGiveWay(t *testing.T) {
	o := options(t)
	o.MaxFailures = 20
	s := open(t, o)
	now := time.Now()
	for i := range 50 {
		mustSave(t, s, storetest.Failed(t, fmt.Sprintf("f%d.example", i), now.Add(time.Duration(i)*time.Second)))
	}
	mustSave(t, s, storetest.Record(t, "policy.example", now))
	for i := range 50 {
		_, err := s.Load(t.Context(), storetest.Domain(t, fmt.Sprintf("f%d.example", i)))
		if got, want := err == nil, i >= 30; got != want {
			t.Errorf("failure %d is there: %v, want %v (%v)", i, got, want, err)
		}
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Records != 21 || st.Failures != 20 {
		t.Errorf("Stats() = %+v, %v, want 20 failures and a policy", st, err)
	}
}

func TestFailuresGiveWayToPolicies(t *testing.T) {
	o := options(t)
	o.MaxBytes = 4 << 20
	s := open(t, o)
	now := time.Now()
	var err error
	failures := 0
	for ; err == nil; failures++ {
		r := storetest.Failed(t, fmt.Sprintf("f%d.example", failures), now.Add(time.Duration(failures)*time.Second))
		r.Failure.Reason = strings.Repeat("r", 3000)
		err = s.Save(t.Context(), r)
		if st, statsErr := s.Stats(t.Context()); statsErr != nil || st.Failures < int64(failures) {
			break // the first failure has given way to another
		}
	}
	for i := range 20 {
		if err := s.Save(t.Context(), large(t, fmt.Sprintf("d%d.example", i), 20_000)); err != nil {
			t.Fatalf("Save of policy %d: %v", i, err)
		}
	}
	st, err := s.Stats(t.Context())
	if err != nil || st.Records-st.Failures != 20 || st.Failures == 0 {
		t.Errorf("Stats() = %+v, %v, want 20 policies, and failures that are left", st, err)
	}
	if _, err := s.Load(t.Context(), storetest.Domain(t, fmt.Sprintf("f%d.example", failures-1))); err != nil {
		t.Errorf("Load of the newest failure: %v", err)
	}
}

func TestCompaction(t *testing.T) {
	o := options(t)
	s := open(t, o)
	err := s.write(t.Context(), func(p *planner) error {
		for i := range 1200 {
			e, err := encode(large(t, fmt.Sprintf("d%d.example", i), 64<<10))
			if err == nil {
				err = p.save(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.write(t.Context(), func(p *planner) error {
		for i := range 1190 {
			if err := p.remove(fmt.Sprintf("d%d.example", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = open(t, o)
	after, err := s.Stats(t.Context())
	if err != nil || after.File > 4<<20 || after.Records != 10 || before.File < 70<<20 || after.Bytes != before.Bytes {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	for i := 1190; i < 1200; i++ {
		wantRecord(t, s, large(t, fmt.Sprintf("d%d.example", i), 64<<10))
	}
	if domains, err := s.Due(t.Context(), due, 100); err != nil || len(domains) != 10 {
		t.Errorf("Due: %v, %v, want 10 domains", domains, err)
	}
	if left, err := filepath.Glob(o.Path + ".*"); err != nil || len(left) != 1 {
		t.Errorf("beside the store are %v, %v, want the lock only", left, err)
	}
}

// broken gives bbolt a descriptor that cannot be written to.
type broken struct{ on bool }

func (b *broken) open(path string, flag int, mode os.FileMode) (*os.File, error) {
	if b.on {
		flag = os.O_RDONLY
	}
	return os.OpenFile(path, flag, mode)
}

func TestAFailedWriteChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		b := &broken{}
		o.openFile = b.open
		s := open(t, o)
		r := storetest.Record(t, "a.example", time.Now())
		mustSave(t, s, r, storetest.Record(t, "b.example", time.Now()))
		mustClose(t, s)
		b.on = true
		s = open(t, o)
		changed := r
		changed.ID = "2"
		for range 3 {
			if err := s.Save(t.Context(), changed); err == nil {
				t.Error("Save succeeded")
			}
			if err := s.Remove(t.Context(), r.Domain); err == nil {
				t.Error("Remove succeeded")
			}
			wantRecord(t, s, r)
		}
		if _, err := s.Load(t.Context(), storetest.Domain(t, "c.example")); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load of an unknown domain: %v, want cache.ErrNotFound", err)
		}
		if aside, err := filepath.Glob(o.Path + ".damaged-*"); err != nil || len(aside) != 0 {
			t.Errorf("%v was set aside, %v: a failed write is no damage", aside, err)
		}
	})
}

func TestAReadOnlyFileIsReadAndLaterWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		s := open(t, o)
		r := storetest.Record(t, "a.example", time.Now())
		mustSave(t, s, r)
		mustClose(t, s)
		readOnly := true
		o.openFile = func(path string, flag int, mode os.FileMode) (*os.File, error) {
			if readOnly {
				return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrPermission}
			}
			return os.OpenFile(path, flag, mode)
		}
		s = open(t, o)
		wantRecord(t, s, r)
		changed := r
		changed.ID = "2"
		if err := s.Save(t.Context(), changed); !errors.Is(err, os.ErrPermission) {
			t.Errorf("Save: %v, want os.ErrPermission", err)
		}
		if st, err := s.Stats(t.Context()); err != nil || !st.ReadOnly {
			t.Errorf("Stats() = %+v, %v, want read only", st, err)
		}
		wantRecord(t, s, r)
		readOnly = false
		time.Sleep(retryAfter)
		mustSave(t, s, changed)
		wantRecord(t, s, changed)
		if st, err := s.Stats(t.Context()); err != nil || st.ReadOnly {
			t.Errorf("Stats() = %+v, %v, want no longer read only", st, err)
		}
	})
}

// fillUp saves records of a kind until the store has no room for more, and
// returns how many it holds.
func fillUp(t *testing.T, s *Store, kind string, expires time.Time) int {
	t.Helper()
	for n := 0; ; n++ {
		r := large(t, fmt.Sprintf("%s%d.example", kind, n), 32_000)
		r.Fetched, r.Expires, r.Refresh = expires.Add(-time.Hour), expires, time.Time{}
		if err := s.Save(t.Context(), r); errors.Is(err, ErrFull) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
		if n > 0 && kind == "expired" {
			if _, err := s.Load(t.Context(), storetest.Domain(t, "expired0.example")); err != nil {
				return n
			}
		}
	}
}

// A full store is copied whole when it is damaged, and takes what it took before:
// also failures of all its domains at once, after which each record is larger.
func TestAFullStoreThatIsDamagedIsCopied(t *testing.T) {
	o := options(t)
	o.MaxBytes = 4 << 20
	s := open(t, o)
	random := rand.New(rand.NewPCG(7, 8))
	var all []cache.Record
	for err := error(nil); err == nil; {
		some := make([]cache.Record, 50)
		for i := range some {
			some[i] = storetest.Record(t, fmt.Sprintf("%x.example", random.Uint64()), due)
			some[i].Fetched, some[i].Expires = time.Now(), time.Now().Add(1e6*time.Hour)
		}
		if err = saveTogether(t, s, some); err == nil {
			all = append(all, some...)
		}
		if err != nil && (!errors.Is(err, ErrFull) || len(all) < 1000) {
			t.Fatalf("Save number %d: %v, want ErrFull, and not before number 1000", len(all), err)
		}
	}
	mustClose(t, s)
	damageIndex(t, o.Path)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		findDamage(t, s)
		waitSalvaged(t, s)
		for some := range slices.Chunk(all, 50) {
			for i := range some {
				some[i].Failure = storetest.Failed(t, some[i].Domain.String(), time.Now()).Failure
			}
			if err := saveTogether(t, s, some); err != nil {
				t.Fatalf("to replace records: %v", err)
			}
		}
		mustSave(t, s, large(t, all[0].Domain.String(), 8000))
	})
}

// The contract has this for what nobody has marked as expired yet.
func TestMarkedPoliciesGiveWay(t *testing.T) {
	o := options(t)
	o.MaxBytes = 4 << 20
	s := open(t, o)
	now := time.Now()
	n := fillUp(t, s, "expired", now.Add(-time.Hour))
	if gone, err := s.Purge(t.Context(), now); err != nil || gone != 0 {
		t.Fatalf("Purge: %d, %v", gone, err)
	}
	forced := fillUp(t, s, "forced", now.Add(time.Hour))
	if forced < n*9/10 {
		t.Errorf("%d policies in force have a place where %d expired ones had", forced, n)
	}
	if st, err := s.Stats(t.Context()); err != nil || st.Records > int64(forced)+int64(n)/10 {
		t.Errorf("Stats() = %+v, %v, with %d in force", st, err, forced)
	}
	if info, err := os.Stat(o.Path); err != nil || info.Size() > o.MaxBytes {
		t.Errorf("the file has %d bytes, %v, want at most %d", info.Size(), err, o.MaxBytes)
	}
}

// What was marked as expired and is in force again is no victim, and does not
// hide those that are.
func TestRenewedPoliciesDoNotGiveWay(t *testing.T) {
	o := options(t)
	o.MaxBytes = 4 << 20
	s := open(t, o)
	now := time.Now().Truncate(time.Second)
	n := fillUp(t, s, "expired", now.Add(-time.Hour))
	if _, err := s.Purge(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	first, err := s.Scan(t.Context(), storetest.Domain(t, "a.example"), n)
	if err != nil || len(first) < 50 {
		t.Fatalf("%d records, %v", len(first), err)
	}
	renewed := first[:len(first)/2]
	for i := range renewed {
		renewed[i].Fetched, renewed[i].Expires = now, now.Add(time.Hour)
	}
	mustSave(t, s, renewed...)
	if forced := fillUp(t, s, "forced", now.Add(time.Hour)); forced < n/3 {
		t.Errorf("%d policies in force have a place beside %d others, of which half expired", forced, len(first))
	}
	for _, r := range renewed {
		wantRecord(t, s, r)
	}
}
