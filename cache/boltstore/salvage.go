package boltstore

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Limits of what is copied in one commit, and of the pause after one that
// failed.
const (
	copyRecords = 256
	copyBytes   = 1 << 20
	firstPause  = time.Second
	lastPause   = 30 * time.Second
)

// salvaging reports whether a record that is not there may have been lost, or
// somebody may still believe so.
func (st *state) salvaging() bool {
	return len(st.old) > 0 || !st.copied.IsZero() && time.Since(st.copied) < 2*salvageWindow
}

// resume returns the state in which the program ended, as the file says: with
// the damaged ones that are yet to be copied, and what was lost in a copy before.
func (s *Store) resume(f *file) *state {
	next := &state{cur: f, until: f.lostUntil()}
	names := f.sources()
	if len(names) == 0 {
		return next
	}
	now := time.Now()
	next.lost, next.copied, next.until = now.Before(next.until), now, now.Add(salvageWindow)
	for _, name := range names[:min(len(names), keepDamaged)] {
		src, err := openFile(filepath.Join(filepath.Dir(s.o.Path), filepath.Base(name)))
		if src == nil {
			s.o.Log.Error("a damaged store is gone before it was copied", zap.String("file", name), zap.Error(err))
			next.lost = true
			continue
		}
		next.old = append(next.old, src)
	}
	return next
}

// goOn makes f the current file, and goes on with a copy that was not complete.
func (s *Store) goOn(f *file) {
	st := s.resume(f)
	s.state.Store(st)
	if !st.copied.IsZero() {
		s.startSalvage()
	}
}

// startSalvage starts the goroutine that copies what can be read, if it does
// not run. The turn is ours.
func (s *Store) startSalvage() {
	if s.salvager {
		return
	}
	s.salvager = true
	s.wg.Go(func() { s.salvage(s.life) })
}

// salvage copies the damaged files until all are done.
func (s *Store) salvage(ctx context.Context) {
	pause := firstPause
	for {
		old := s.state.Load().old
		lost, err := s.copyAll(ctx, old)
		if err == nil {
			var done bool
			if done, err = s.finish(ctx, old, lost); done {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, errRetired) {
			s.o.Log.Warn("copying from a damaged store failed, and is tried again", zap.Error(err), zap.Duration("in", pause))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// copyAll copies what can be read of the files, and reports whether anything
// of them could not be.
func (s *Store) copyAll(ctx context.Context, files []*file) (lost bool, err error) {
	for _, f := range files {
		if lost {
			if err := s.outwait(ctx, files); err != nil {
				return false, err
			}
		}
		c := copier{write: func(batch []*entry) error {
			return s.writeCopy(ctx, files, func(p *planner) error { return p.copyAll(batch) })
		}}
		sc, err := f.scan(c.add)
		if err != nil {
			return false, err
		}
		if err := c.flush(); err != nil {
			return false, err
		}
		// Only now: in f it was saved after it was removed.
		if err := s.copyRemoved(ctx, files, cmp.Or(sc.last, f.remains())); err != nil {
			return false, err
		}
		lost = lost || sc.lost
		s.o.Log.Info("what can be read of a damaged store was copied",
			zap.Int("records", c.total), zap.Bool("complete", !sc.lost))
	}
	return lost, nil
}

// outwait waits until what was lost is no longer called damaged: before that, what an
// older file says does not count; see [state.loadOld]. Another file that is set aside
// meanwhile does not wait for it.
func (s *Store) outwait(ctx context.Context, files []*file) error {
	for st := s.state.Load(); time.Now().Before(st.until); st = s.state.Load() {
		if !slices.Equal(st.old, files) {
			return errRetired
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(firstPause):
		}
	}
	return nil
}

// writeCopy writes what was found in one of the files, unless another one was set
// aside by now: what that says goes before what an older one does.
func (s *Store) writeCopy(ctx context.Context, files []*file, plan func(p *planner) error) error {
	return s.write(ctx, func(p *planner) error {
		if !slices.Equal(s.state.Load().old, files) {
			return errRetired
		}
		return plan(p)
	})
}

// copyRemoved copies which domains were removed while the file of v was the current
// one, so that what older files have of them does not come back.
func (s *Store) copyRemoved(ctx context.Context, files []*file, v *view) error {
	for from := ""; ; {
		var domains []string
		_ = v.buckets[bucketRemoved].walk([]byte(from), func(key, _ []byte) bool { // as far as it goes
			domains = append(domains, string(key))
			return len(domains) < copyRecords
		})
		if len(domains) == 0 {
			return nil
		}
		err := s.writeCopy(ctx, files, func(p *planner) error {
			for _, domain := range domains {
				p.put(bucketRemoved, domain, nil)
			}
			return nil
		})
		if err != nil {
			return err
		}
		from = domains[len(domains)-1] + "\x00"
	}
}

// copier collects records and saves many at once.
type copier struct {
	write func(batch []*entry) error
	batch []*entry
	bytes int
	total int
}

func (c *copier) add(e *entry) error {
	c.batch = append(c.batch, e)
	c.bytes += len(e.data)
	c.total++
	if len(c.batch) < copyRecords && c.bytes < copyBytes {
		return nil
	}
	return c.flush()
}

func (c *copier) flush() error {
	batch := c.batch
	c.batch, c.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	return c.write(batch)
}

func (p *planner) copyAll(batch []*entry) error {
	p.copying = true
	for _, e := range batch {
		if err := p.copyIn(e); err != nil {
			return err
		}
	}
	return nil
}

// finish lets go of files that were copied. It reports false when there are
// others by now.
func (s *Store) finish(ctx context.Context, files []*file, lost bool) (bool, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	f, err := s.writer() // which may find more damage
	if err != nil {
		return false, err
	}
	st := s.state.Load()
	if !slices.Equal(st.old, files) {
		return false, nil
	}
	next := &state{cur: f, copied: time.Now()}
	if lost || st.lost {
		next.until = st.until
	}
	err = f.update(&s.o, true, func(p *planner) error { return p.endCopy(next.until) })
	if errors.Is(err, errDamage) {
		return false, s.setAside(f, err)
	}
	if err != nil {
		return false, err
	}
	s.state.Store(next)
	for _, old := range files {
		old.close()
	}
	s.salvager = false
	return true, nil
}

// endCopy notes that nothing is left to copy, and until when what is not found is
// called damaged; the zero time is not at all.
func (p *planner) endCopy(until time.Time) error {
	p.put(bucketMeta, metaSources, nil)
	if !until.IsZero() {
		p.put(bucketMeta, metaLost, number(until.Unix()))
	}
	return nil
}

// lostUntil returns until when what is not found is called damaged, because a
// copy that lost something was complete only a moment before the program ended.
// Whatever the clock did meanwhile, that is not longer than salvageWindow.
func (f *file) lostUntil() time.Time {
	until := time.Unix(readNumber(f.about(metaLost)), 0)
	if most := time.Now().Add(salvageWindow); until.After(most) {
		return most
	}
	return until
}
