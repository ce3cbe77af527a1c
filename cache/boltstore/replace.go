package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

const (
	newSuffix     = ".new"
	damagedSuffix = ".damaged-"
	// keepDamaged is how many damaged files are kept.
	keepDamaged = 3
	// salvageWindow is how long what is not found is called damaged at most.
	salvageWindow = time.Minute
)

// openCurrent opens the file at the path of the store, or makes it.
func (s *Store) openCurrent() error {
	if err := s.makeIfMissing(); err != nil {
		return err
	}
	f, err := openFile(s.o.Path)
	if err == nil {
		s.clock = newRunningTime(f)
		if f, err = s.compact(f); err == nil {
			err = f.openWriter(&s.o)
		}
	}
	switch {
	case errors.Is(err, errDamage):
		s.clock = newRunningTime(f)
		s.state.Store(s.resume(f))
		_ = s.setAside(f, err) // was logged; the damaged file can be read
		return nil
	case f != nil && cannotWrite(err):
		s.o.Log.Warn("the store cannot be written to, policies are read only", zap.Error(err))
	case err != nil:
		if f != nil {
			f.close()
		}
		return err
	}
	s.goOn(f)
	return nil
}

// makeIfMissing makes a file if there is none. One that was left half way
// between its old name and its new one is there.
func (s *Store) makeIfMissing() error {
	fresh := s.o.Path + newSuffix
	_, err := os.Lstat(s.o.Path)
	if err == nil {
		_ = os.Remove(fresh) // of a program that was stopped; none is fine
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("opening the store: %w", err)
	}
	if f, err := openFile(fresh); err == nil {
		salvaged := len(f.sources()) > 0
		f.close()
		if salvaged {
			return s.moveIn()
		}
	}
	if err := makeFile(fresh, nil, 0, time.Time{}); err != nil {
		return unmadeError(err)
	}
	return unmadeError(s.moveIn())
}

// makeFile makes an empty store at path, on the disk when it returns.
func makeFile(path string, sources []string, clock time.Duration, lost time.Time) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("making a store: %w", err)
	}
	return guard(func() error {
		db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: boltLockWait})
		if err != nil {
			return fmt.Errorf("making a store: %w", err)
		}
		begin := func(tx *bolt.Tx) error {
			for _, name := range buckets {
				if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
					return err
				}
			}
			about := tx.Bucket([]byte(bucketMeta))
			return errors.Join(
				about.Put([]byte(metaFormat), []byte{fileFormat}),
				about.Put([]byte(metaClock), number(int64(clock.Seconds()))),
				about.Put([]byte(metaSources), []byte(strings.Join(sources, "\n"))),
				about.Put([]byte(metaLost), number(lost.Unix())),
			)
		}
		// Once for each meta page: with either lost, the other says all of this.
		if err = db.Update(begin); err == nil {
			err = db.Update(begin)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			return fmt.Errorf("making a store: %w", err)
		}
		return nil
	})
}

// moveIn gives the new file the name of the store.
func (s *Store) moveIn() error {
	if err := os.Rename(s.o.Path+newSuffix, s.o.Path); err != nil {
		return fmt.Errorf("making a store: %w", err)
	}
	dir, err := os.Open(filepath.Dir(s.o.Path))
	if err != nil {
		return fmt.Errorf("making a store: %w", err)
	}
	err = dir.Sync()
	_ = dir.Close() // read only
	if err != nil {
		return fmt.Errorf("making a store: %w", err)
	}
	return nil
}

// writer returns the file, open for writing. The turn is ours.
func (s *Store) writer() (*file, error) {
	st := s.state.Load()
	if st.closed {
		return nil, ErrClosed
	}
	if st.cur != nil && st.cur.db != nil && !st.cur.unsure {
		return st.cur, nil
	}
	if time.Now().Before(s.retryAt) {
		return nil, s.lastError
	}
	if err := s.repair(st); err != nil {
		s.retryAt, s.lastError = time.Now().Add(retryAfter), err
		return nil, err
	}
	return s.state.Load().cur, nil
}

// repair makes the store ready for writing again.
func (s *Store) repair(st *state) error {
	if st.unmade() {
		return s.makeLate()
	}
	if st.cur == nil {
		return s.begin(st)
	}
	var err error
	if st.cur.db != nil {
		err = st.cur.settle(&s.o)
	} else {
		err = s.reopen(st)
	}
	if errors.Is(err, errDamage) {
		return s.setAside(st.cur, err)
	}
	return err
}

// reopen opens a file for writing that was open for reading only. It may be
// another one by now.
func (s *Store) reopen(st *state) error {
	if err := s.lockLate(); err != nil {
		return err
	}
	f, err := openWritable(&s.o)
	if err != nil {
		return err
	}
	s.o.Log.Info("the store can be written to again")
	s.state.Store(&state{cur: f, old: st.old, until: st.until, copied: st.copied, lost: st.lost})
	st.cur.close()
	return nil
}

// quarantine sets f aside if it is still the current file.
func (s *Store) quarantine(ctx context.Context, f *file, cause error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.state.Load().cur != f {
		return nil
	}
	// Without a new file the store goes on with the old one, reading only.
	_ = s.setAside(f, cause) // was logged
	return nil
}

// setAside begins a new file in place of f, which is damaged. The turn is
// ours.
func (s *Store) setAside(f *file, cause error) error {
	f.closeWriter()
	st := s.state.Load()
	now := time.Now()
	next := &state{
		old: append([]*file{f}, st.old...), until: now.Add(salvageWindow), copied: now,
		lost: st.lost || len(st.old) == 0 && now.Before(st.until), // what the last copy could not read
	}
	var last *file
	if len(next.old) > keepDamaged {
		last, next.old, next.lost = next.old[keepDamaged], next.old[:keepDamaged], true
	}
	s.state.Store(next)
	if last != nil {
		last.close()
	}
	s.o.Log.Error("the store is damaged: a new file is begun, and what can be read is copied to it",
		zap.String("file", s.o.Path), zap.Error(cause))
	err := s.begin(next)
	if err != nil {
		s.retryAt, s.lastError = now.Add(retryAfter), err
		s.o.Log.Error("a new store cannot be begun: policies are read from the damaged one, and none is stored", zap.Error(err))
	}
	s.startSalvage()
	return err
}

// begin makes a new file in which everything of the old ones is to be copied.
// The newest of those may still be where the new one belongs.
func (s *Store) begin(st *state) error {
	if err := s.lockLate(); err != nil {
		return err
	}
	newest := st.old[0]
	aside := newest.path
	if aside == s.o.Path {
		aside += damagedSuffix + time.Now().UTC().Format("20060102T150405.000000000")
	}
	names := []string{filepath.Base(aside)}
	for _, f := range st.old[1:] {
		names = append(names, filepath.Base(f.path))
	}
	var lost time.Time
	if st.lost {
		lost = st.until
	}
	if err := makeFile(s.o.Path+newSuffix, names, s.clock.total(), lost); err != nil {
		return err
	}
	if aside != newest.path {
		if err := linkOrRename(s.o.Path, aside); err != nil {
			return err
		}
		newest.path = aside
	}
	if err := s.moveIn(); err != nil {
		return err
	}
	s.prune(names)
	f, err := openWritable(&s.o)
	if err != nil {
		return err
	}
	s.state.Store(&state{cur: f, old: st.old, until: st.until, copied: st.copied, lost: st.lost})
	return nil
}

// linkOrRename gives a file another name. With a link there is a file under
// the old name at every moment; not every file system has links.
func linkOrRename(path, aside string) error {
	err := os.Link(path, aside)
	if err != nil && !errors.Is(err, os.ErrExist) {
		err = os.Rename(path, aside)
	}
	if err != nil {
		return fmt.Errorf("setting the damaged store aside: %w", err)
	}
	return nil
}

// prune removes all but the newest damaged files. Those that are yet to be copied
// count as the newest, whatever the clock said when they got their names.
func (s *Store) prune(sources []string) {
	files, _ := filepath.Glob(globQuote(s.o.Path) + damagedSuffix + "*") // it is a pattern
	files = slices.DeleteFunc(files, func(name string) bool { return slices.Contains(sources, filepath.Base(name)) })
	slices.Sort(files)
	for _, name := range files[:max(0, len(files)+len(sources)-keepDamaged)] {
		if err := os.Remove(name); err != nil {
			s.o.Log.Warn("an old damaged store cannot be removed", zap.String("file", name), zap.Error(err))
		}
	}
}

// globQuote quotes what means something to filepath.Glob.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// sources returns the damaged files that are yet to be copied into f.
func (f *file) sources() []string {
	b := f.about(metaSources)
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\n")
}

// about returns what a file says of itself, as far as that can be read, also of a
// damaged one; nil is nothing. Nobody may write to the file meanwhile.
func (f *file) about(key string) []byte {
	b, err := f.remains().buckets[bucketMeta].find([]byte(key))
	if err != nil {
		return nil
	}
	return b
}
