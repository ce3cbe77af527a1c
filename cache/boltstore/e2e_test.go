//go:build e2e

package boltstore

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

// These tests need to be root: each runs in a process with mounts of its own.

// inNamespace runs the test of the given name again, with a mount namespace of
// its own and a directory for mounts, and reports whether this is that run.
func inNamespace(t *testing.T, name string) (dir string, inside bool) {
	t.Helper()
	if flag.NArg() == 1 {
		dir := flag.Arg(0)
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return dir, true
	}
	cmd := child(t, name, t.TempDir())
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return "", false
}

// mount mounts a file system in memory.
func mount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatalf("mount -o %s: %v", options, err)
	}
}

func TestFullDisk(t *testing.T) {
	dir, inside := inNamespace(t, "TestFullDisk")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=3m")
	o := Options{Path: filepath.Join(dir, "policies.db")}
	s := open(t, o)
	saved := map[string]cache.Record{}
	save := func(name string, size int) error {
		r := large(t, name, size)
		err := s.Save(t.Context(), r)
		if err == nil {
			saved[name] = r
		}
		return err
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = save(fmt.Sprintf("d%d.example", i), 10_000)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Save: %v, want %v", err, syscall.ENOSPC)
	}
	for i := range 20 {
		if err := save(fmt.Sprintf("e%d.example", i), 50_000); err == nil {
			t.Error("Save succeeded on a full disk")
		}
		for _, r := range saved {
			wantRecord(t, s, r)
		}
	}
	unknown := storetest.Domain(t, "unknown.example")
	if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load of an unknown domain: %v, want cache.ErrNotFound", err)
	}
	mount(t, dir, syscall.MS_REMOUNT, "size=8m")
	for i := range 40 {
		if err := save(fmt.Sprintf("d%d.example", i*3), 20_000); err != nil {
			t.Errorf("Save with space again: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	for _, r := range saved {
		wantRecord(t, s, r)
	}
	if aside, err := filepath.Glob(o.Path + ".damaged-*"); err != nil || len(aside) != 0 {
		t.Errorf("%v was set aside, %v: a full disk is no damage", aside, err)
	}
}

// fillDisk leaves no space on the disk of dir, and returns what makes room again.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoFileOnAFullDisk(t *testing.T) {
	dir, inside := inNamespace(t, "TestNoFileOnAFullDisk")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=8m")
	empty := fillDisk(t, dir)
	core, logged := observer.New(zap.InfoLevel)
	o := Options{Path: filepath.Join(dir, "policies.db"), Log: zap.New(core)}
	s := open(t, o)
	r := storetest.Record(t, "a.example", time.Now())
	for range 3 {
		if err := s.Save(t.Context(), r); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Save: %v, want %v", err, syscall.ENOSPC)
		}
		if _, err := s.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load: %v, want cache.ErrNotFound", err)
		}
	}
	due, err := s.Due(t.Context(), time.Now().Add(1000*time.Hour), 10)
	if err != nil || len(due) != 0 {
		t.Errorf("Due: %v, %v, of a store without a file", due, err)
	}
	if all, err := s.Scan(t.Context(), policy.Domain{}, 10); err != nil || len(all) != 0 {
		t.Errorf("Scan: %v, %v, of a store without a file", all, err)
	}
	if n, err := s.Purge(t.Context(), time.Now()); err != nil || n != 0 {
		t.Errorf("Purge: %d, %v, of a store without a file", n, err)
	}
	if stats, err := s.Stats(t.Context()); err != nil || stats != (Stats{ReadOnly: true}) {
		t.Errorf("Stats: %+v, %v, of a store without a file", stats, err)
	}
	if n := logged.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
		t.Errorf("%d errors in the log, want 1 in the first minute: %v", n, logged.All())
	}
	if _, err := Open(t.Context(), Options{Path: o.Path, LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("Open by another: %v, want ErrLocked", err)
	}
	empty()
	time.Sleep(retryAfter)
	if _, err := s.Purge(t.Context(), time.Now()); err != nil || logged.FilterMessage(madeMessage).Len() != 1 {
		t.Errorf("Purge with space again: %v; the log has %v", err, logged.All())
	}
	mustSave(t, s, r)
	wantRecord(t, s, r)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fillDisk(t, dir)
	s = open(t, o) // with a file, a full disk is no hindrance
	wantRecord(t, s, r)
}

func TestNoLockOnAFullDisk(t *testing.T) {
	dir, inside := inNamespace(t, "TestNoLockOnAFullDisk")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=8m,nr_inodes=1")
	s := open(t, Options{Path: filepath.Join(dir, "policies.db")})
	r := storetest.Record(t, "a.example", time.Now())
	if err := s.Save(t.Context(), r); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Save: %v, want %v", err, syscall.ENOSPC)
	}
	mount(t, dir, syscall.MS_REMOUNT, "size=8m,nr_inodes=10")
	time.Sleep(retryAfter)
	mustSave(t, s, r)
	wantRecord(t, s, r)
	if _, err := Open(t.Context(), Options{Path: s.o.Path, LockWait: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("Open by another: %v, want ErrLocked", err)
	}
}

func TestDamageOnAFullDisk(t *testing.T) {
	sm := newSample(t)
	dir, inside := inNamespace(t, "TestDamageOnAFullDisk")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=8m")
	o := Options{Path: filepath.Join(dir, "policies.db")}
	if err := os.WriteFile(o.Path, sm.image, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := fillDisk(t, dir)
	f, err := openFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	v := f.view.Load()
	overwrite(t, o.Path, int64(v.buckets[bucketDue].root)*int64(v.size)+8, []byte{0xff, 0xff})
	f.close()
	s := open(t, o)
	if _, err := s.Due(t.Context(), time.Now().Add(1000*time.Hour), 10); err == nil {
		t.Error("Due succeeded though its index is damaged and no other can be made")
	}
	if err := s.Save(t.Context(), sm.records["d7.example"]); err == nil {
		t.Error("Save succeeded on a full disk")
	}
	for _, r := range sm.records {
		wantRecord(t, s, r)
	}
	empty()
	time.Sleep(retryAfter)
	for len(s.state.Load().old) > 0 || s.state.Load().cur == nil {
		time.Sleep(100 * time.Millisecond)
	}
	if got := sm.use(t, s); got != len(sm.records) {
		t.Errorf("%d of %d records were copied", got, len(sm.records))
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir, inside := inNamespace(t, "TestReadOnlyFileSystem")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=8m")
	o := Options{Path: filepath.Join(dir, "policies.db")}
	r := storetest.Record(t, "a.example", time.Now())
	s := open(t, o)
	mustSave(t, s, r)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	mount(t, dir, syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	if _, err := Open(t.Context(), Options{Path: filepath.Join(dir, "none.db")}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open without a store: %v, want %v", err, syscall.EROFS)
	}
	s = open(t, o)
	wantRecord(t, s, r)
	changed := r
	changed.ID = "2"
	for range 3 {
		if err := s.Save(t.Context(), changed); !errors.Is(err, syscall.EROFS) {
			t.Errorf("Save: %v, want %v", err, syscall.EROFS)
		}
		wantRecord(t, s, r)
	}
	if _, err := s.Load(t.Context(), storetest.Domain(t, "b.example")); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load of an unknown domain: %v, want cache.ErrNotFound", err)
	}
	mount(t, dir, syscall.MS_REMOUNT, "")
	time.Sleep(retryAfter)
	mustSave(t, s, changed)
	wantRecord(t, s, changed)
}

func TestDamageOnAReadOnlyFileSystem(t *testing.T) {
	sm := newSample(t)
	dir, inside := inNamespace(t, "TestDamageOnAReadOnlyFileSystem")
	if !inside {
		return
	}
	mount(t, dir, 0, "size=8m")
	o := Options{Path: filepath.Join(dir, "policies.db")}
	if err := os.WriteFile(o.Path, sm.image, 0o600); err != nil {
		t.Fatal(err)
	}
	damageBranch(t, o.Path)
	mount(t, dir, syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	s := open(t, o)
	for _, r := range sm.records {
		if _, err := s.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("Load: %v, want cache.ErrDamaged", err)
		}
	}
	mount(t, dir, syscall.MS_REMOUNT, "")
	time.Sleep(retryAfter)
	for len(s.state.Load().old) > 0 || s.state.Load().cur == nil {
		time.Sleep(100 * time.Millisecond)
	}
	if got := sm.use(t, s); got != len(sm.records) {
		t.Errorf("%d of %d records were copied", got, len(sm.records))
	}
}
