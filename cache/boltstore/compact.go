package boltstore

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
)

// A file is written anew when it is opened if so much of it is unused, and no
// more than that is to be copied.
const (
	compactFree = 64 << 20
	compactUsed = 256 << 20
)

// compact writes f anew if that is worth it, and returns the file to use. An
// error means that f is damaged; if only the new file fails, the old one does.
func (s *Store) compact(f *file) (*file, error) {
	v := f.view.Load()
	used, free := v.used(), int64(v.free.count)*int64(v.size)
	if s.lock == nil || free < compactFree || free < 3*used || used > compactUsed || len(f.sources()) > 0 || time.Now().Before(f.lostUntil()) {
		return f, nil
	}
	err := s.rewrite(f)
	if errors.Is(err, errDamage) {
		return f, err
	}
	if err != nil {
		s.o.Log.Warn("the store cannot be compacted, and is used as it is", zap.Error(err))
		_ = os.Remove(s.o.Path + newSuffix) // is made anew in any case
	} else {
		s.o.Log.Info("the store was compacted", zap.Int64("used", used), zap.Int64("freed", free))
	}
	// Whichever file has the name by now is the store.
	f.close()
	return openFile(s.o.Path)
}

// rewrite copies f into a new file that takes its place.
func (s *Store) rewrite(f *file) error {
	path := s.o.Path + newSuffix
	if err := makeFile(path, nil, s.clock.total(), time.Time{}); err != nil {
		return err
	}
	next, err := openFile(path)
	if err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	defer next.close()
	o := s.o
	o.openFile = os.OpenFile
	if err := next.openWriter(&o); err != nil {
		return err
	}
	next.db.NoSync = true // one sync at the end
	c := copier{write: func(batch []*entry) error {
		return next.update(&o, false, func(p *planner) error { return p.copyAll(batch) })
	}}
	sc, err := f.scan(c.add)
	if err := errors.Join(err, c.flush()); err != nil {
		return err
	}
	if sc.lost {
		return fmt.Errorf("%w: not all of it can be copied", errDamage)
	}
	if err := next.w.Sync(); err != nil {
		return fmt.Errorf("compacting: %w", err)
	}
	return s.moveIn()
}
