package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

// due is when the records of these tests are to be refreshed.
var due = time.Unix(1_900_000_000, 0)

// mustSave saves records.
func mustSave(t *testing.T, s *Store, records ...cache.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// saveTogether saves records in one commit.
func saveTogether(t *testing.T, s *Store, records []cache.Record) error {
	t.Helper()
	return s.write(t.Context(), func(p *planner) error {
		for _, r := range records {
			e, err := encode(r)
			if err == nil {
				err = p.save(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantRecord checks what a store holds.
func wantRecord(t *testing.T, s *Store, want cache.Record) {
	t.Helper()
	got, err := s.Load(t.Context(), want.Domain)
	if err != nil || !storetest.Equal(got, want) {
		t.Errorf("Load(%s) = %q, %v, want the record that was saved", want.Domain, got.ID, err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	o := options(t)
	open(t, o)
	for path, want := range map[string]os.FileMode{
		o.Path: 0o600, o.Path + ".lock": 0o600, filepath.Dir(o.Path): 0o700 | os.ModeDir,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("mode of %s is %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	files, err := os.ReadDir(filepath.Dir(o.Path))
	if err != nil || len(files) != 2 {
		t.Errorf("%d files, %v, want the store and its lock", len(files), err)
	}
}

func TestASecondInstanceIsRefused(t *testing.T) {
	o := options(t)
	s := open(t, o)
	o.LockWait = time.Millisecond
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("Open: %v, want ErrLocked", err)
	}
	mustSave(t, s, storetest.Record(t, "a.example", due))
	mustClose(t, s)
	wantRecord(t, open(t, o), storetest.Record(t, "a.example", due))
}

func TestASecondInstanceWaitsForTheFirst(t *testing.T) {
	o := options(t)
	first := open(t, o)
	o.LockWait = 10 * time.Second
	opened := make(chan error)
	go func() {
		second, err := Open(t.Context(), o)
		if err == nil {
			err = second.Close()
		}
		opened <- err
	}()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Errorf("Open: %v", err)
	}
}

func TestAFileThatAnotherProgramHasOpenIsRefused(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(o.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("Open: %v, want ErrLocked", err)
	}
}

// change changes a closed store with bbolt alone.
func change(t *testing.T, path string, fn func(tx *bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatAreNotOursAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"a newer format", func(t *testing.T, path string) {
			if err := open(t, Options{Path: path}).Close(); err != nil {
				t.Fatal(err)
			}
			change(t, path, func(tx *bolt.Tx) error {
				return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaFormat), []byte{fileFormat + 1})
			})
		}, ErrNewer},
		{"the database of another program", func(t *testing.T, path string) {
			change(t, path, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("accounts"))
				return err
			})
		}, ErrForeign},
		{"an empty database", func(t *testing.T, path string) {
			change(t, path, func(*bolt.Tx) error { return nil })
		}, ErrForeign},
		{"a configuration", func(t *testing.T, path string) {
			text := strings.Repeat("# größer als eine Seite\nsmtp_tls_security_level = dane\n", 100)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
		{"a line", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
		{"a device", func(t *testing.T, path string) {
			if err := os.Symlink("/dev/null", path); err != nil {
				t.Fatal(err)
			}
		}, ErrForeign},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policies.db")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, tt.want) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestAFileOfSomethingElseIsSetAside(t *testing.T) {
	for name, content := range map[string]string{
		"a database of another kind": "SQLite format 3\x00" + strings.Repeat("x", 9000), "nothing": "",
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(o.Path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, o)
			if _, err := s.Load(t.Context(), storetest.Domain(t, "a.example")); !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("Load: %v, want cache.ErrDamaged", err)
			}
			aside, err := filepath.Glob(o.Path + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("set aside are %v, %v, want one file", aside, err)
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != content {
				t.Errorf("what was set aside is not what was there, %v", err)
			}
		})
	}
}

func TestALinkToTheStoreStays(t *testing.T) {
	o := options(t)
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(o.Path, link); err != nil {
		t.Fatal(err)
	}
	damage := []byte(strings.Repeat("\xff", 9000))
	if err := os.WriteFile(o.Path, damage, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Path: link})
	mustSave(t, s, storetest.Record(t, "a.example", due))
	mustClose(t, s)
	wantRecord(t, open(t, o), storetest.Record(t, "a.example", due))
}

func TestAFileThatIsHalfRenamedIsFound(t *testing.T) {
	o := options(t)
	s := open(t, o)
	mustSave(t, s, storetest.Record(t, "a.example", due))
	mustClose(t, s)
	aside := o.Path + ".damaged-20260101T000000"
	if err := makeFile(o.Path+newSuffix, []string{filepath.Base(aside)}, 0, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(o.Path, aside); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, open(t, o), storetest.Record(t, "a.example", due))
}

func TestAFileThatWasNotFinishedIsMadeAnew(t *testing.T) {
	o := options(t)
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Path+newSuffix, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	if _, err := s.Load(t.Context(), storetest.Domain(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load: %v, want cache.ErrNotFound: nothing was ever in the store", err)
	}
}

func TestClosedStore(t *testing.T) {
	s := open(t, options(t))
	mustClose(t, s)
	d := storetest.Domain(t, "a.example")
	_, loadErr := s.Load(t.Context(), d)
	_, dueErr := s.Due(t.Context(), time.Now(), 1)
	_, scanErr := s.Scan(t.Context(), d, 1)
	_, purgeErr := s.Purge(t.Context(), time.Now())
	_, statsErr := s.Stats(t.Context())
	for name, err := range map[string]error{
		"Load": loadErr, "Due": dueErr, "Scan": scanErr, "Purge": purgeErr, "Stats": statsErr,
		"Save": s.Save(t.Context(), storetest.Record(t, "a.example", due)), "Remove": s.Remove(t.Context(), d),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close, repeated: %v", err)
	}
}

func TestAJobThatNobodyTookIsCancelled(t *testing.T) {
	s := open(t, options(t))
	s.turn <- struct{}{} // somebody writes
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.Save(ctx, storetest.Record(t, "a.example", due)) }()
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want context.Canceled", err)
	}
	<-s.turn
	mustSave(t, s, storetest.Record(t, "b.example", due))
	if _, err := s.Load(t.Context(), storetest.Domain(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load: %v, want cache.ErrNotFound", err)
	}
}

func TestManySavesShareACommit(t *testing.T) {
	s := open(t, options(t))
	meta := func() meta {
		m, err := readMeta(s.state.Load().cur.r)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before := meta().txid
	s.turn <- struct{}{} // somebody writes
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := s.Save(t.Context(), storetest.Record(t, fmt.Sprintf("d%d.example", i), due)); err != nil {
				t.Error(err)
			}
		})
	}
	for queued := 0; queued < 100; {
		time.Sleep(time.Millisecond)
		s.queue.mu.Lock()
		queued = len(s.queue.jobs)
		s.queue.mu.Unlock()
	}
	<-s.turn
	wg.Wait()
	if n := meta().txid - before; n != 1 {
		t.Errorf("100 records took %d commits, want 1", n)
	}
}

func TestAFaultIsAnError(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "short"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, 8192, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Munmap(b); err != nil {
			t.Error(err)
		}
	}()
	err = guard(func() error { return fmt.Errorf("read %d", b[5000]) })
	if !errors.Is(err, errDamage) {
		t.Errorf("guard: %v, want damage: the file has no such page", err)
	}
}

func TestAfterAPanicOfBboltTheStoreGoesOn(t *testing.T) {
	s := open(t, options(t))
	mustSave(t, s, storetest.Record(t, "a.example", due))
	s.turn <- struct{}{}
	f := s.state.Load().cur
	p := newPlanner(f.view.Load(), &s.o, false)
	p.put("no such bucket", "key", nil)
	if err := guard(func() error { return f.apply(p) }); !errors.Is(err, errDamage) {
		t.Errorf("a write into a bucket that is not there: %v, want damage", err)
	}
	f.abandonWriter()
	<-s.turn
	wantRecord(t, s, storetest.Record(t, "a.example", due))
	mustSave(t, s, storetest.Record(t, "b.example", due))
	wantRecord(t, s, storetest.Record(t, "b.example", due))
}

func TestAfterAFailedSyncTheStoreGoesOn(t *testing.T) {
	o := options(t)
	s := open(t, o)
	for i := range 5 {
		mustSave(t, s, storetest.Record(t, fmt.Sprintf("d%d.example", i), due))
		s.turn <- struct{}{}
		s.state.Load().cur.unsure = true
		<-s.turn
	}
	mustClose(t, s)
	s = open(t, o)
	for i := range 5 {
		wantRecord(t, s, storetest.Record(t, fmt.Sprintf("d%d.example", i), due))
	}
}

func TestATooLargeRecordIsRefused(t *testing.T) {
	s := open(t, options(t))
	r := storetest.Record(t, "a.example", due)
	r.Text = strings.Repeat("x", maxRecord)
	if err := s.Save(t.Context(), r); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Save: %v, want ErrTooLarge", err)
	}
}

func TestScanAndStats(t *testing.T) {
	s := open(t, options(t))
	fill(t, s, 700)
	mustSave(t, s, storetest.Failed(t, "failed.example", time.Now()))
	var names []string
	var after policy.Domain
	for {
		records, err := s.Scan(t.Context(), after, 300)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			break
		}
		if len(names) == 0 && len(records) != 300 {
			t.Errorf("Scan returned %d records, want 300", len(records))
		}
		for _, r := range records {
			after = r.Domain
			names = append(names, after.String())
		}
	}
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			t.Errorf("%s comes before %s", names[i-1], names[i])
		}
	}
	st, err := s.Stats(t.Context())
	if err != nil || len(names) != 701 || st.Records != 701 || st.Failures != 1 || st.ReadOnly ||
		st.Bytes < 700*150 || st.Used < st.Bytes || st.File < st.Used {
		t.Errorf("%d names, Stats() = %+v, %v", len(names), st, err)
	}
}

func TestPurgeForgetsWhatIsOfNoUse(t *testing.T) {
	const day = 24 * time.Hour
	o := options(t)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		start := time.Now()
		ended := storetest.Record(t, "ended.example", time.Time{})
		ended.Fetched, ended.Expires = start.Add(-time.Hour), start
		renewed := ended
		renewed.Domain = storetest.Domain(t, "renewed.example")
		lasting := storetest.Record(t, "lasting.example", time.Time{})
		lasting.Fetched, lasting.Expires = start, start.Add(100*day)
		mustSave(t, s, ended, renewed, lasting, storetest.Failed(t, "failed.example", start))
		for _, step := range []struct {
			name       string
			pass, jump time.Duration
			want       string
		}{
			{"at once", 0, 0, "ended failed lasting renewed"},
			{"a second before a day", day - time.Second, 0, "ended failed lasting renewed"},
			{"after a day and a second", 2 * time.Second, 0, "ended lasting renewed"},
			{"a jump of the clock is not running time", day, 1000 * day, "ended lasting renewed"},
			{"nor is a jump back", day, -1000 * day, "ended lasting renewed"},
			{"after almost a month", 27*day - 2*time.Second, 0, "ended lasting renewed"},
			{"after a month", 2 * time.Second, 0, "lasting renewed"},
			{"two days more: what only seemed to have ended is kept", 2 * day, 0, "lasting renewed"},
			{"after the second end and a month", 50 * day, 0, "lasting renewed"},
			{"at last", 31 * day, 0, "lasting"},
			{"the mark for the other", 20 * day, 0, "lasting"},
			{"all is gone", 31 * day, 0, ""},
		} {
			time.Sleep(step.pass)
			if _, err := s.Purge(t.Context(), time.Now().Add(step.jump)); err != nil {
				t.Fatal(err)
			}
			if step.name == "after a day and a second" {
				renewed.Expires = time.Now().Add(60 * day).Truncate(time.Second)
				mustSave(t, s, renewed)
			}
			if step.name == "nor is a jump back" { // the clock goes on over a restart
				mustClose(t, s)
				s = open(t, o)
			}
			records, err := s.Scan(t.Context(), policy.Domain{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range records {
				names = append(names, strings.TrimSuffix(r.Domain.String(), ".example"))
			}
			if got := strings.Join(names, " "); got != step.want {
				t.Errorf("%s: %q, want %q", step.name, got, step.want)
			}
		}
		v := s.state.Load().cur.view.Load()
		for _, b := range []string{bucketDue, bucketExpiry, bucketExpired, bucketFailed} {
			if keys, err := v.keysUpTo(b, "", 1<<62, 10); err != nil || len(keys) != 0 {
				t.Errorf("bucket %s holds %q, %v, want nothing", b, keys, err)
			}
		}
	})
}

func TestPurgeGoesInSteps(t *testing.T) {
	s := open(t, options(t))
	err := s.write(t.Context(), func(p *planner) error {
		for i := range 1500 {
			e, err := encode(storetest.Failed(t, fmt.Sprintf("d%d.example", i), time.Now().Add(-48*time.Hour)))
			if err != nil {
				return err
			}
			if err := p.save(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1000, 500, 0} {
		if got, err := s.Purge(t.Context(), time.Now()); got != want || err != nil {
			t.Errorf("Purge() = %d, %v, want %d", got, err, want)
		}
	}
}

// child runs this test binary again, with the test of the given name, and the
// words after "--" as its arguments.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"-test.run=^" + name + "$", "-test.v", "--"}, args...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
