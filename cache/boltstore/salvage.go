package boltstore

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
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
	return len(st.old) > 0 || !st.begun.IsZero() && time.Since(st.begun) < 2*salvageWindow
}

// resume goes on with a copy that was not complete when the program ended.
func (s *Store) resume(f *file) {
	names := f.sources()
	if len(names) == 0 {
		return
	}
	next := &state{cur: f, begun: time.Now(), until: time.Now().Add(salvageWindow)}
	for _, name := range names[:min(len(names), keepDamaged)] {
		src, err := openFile(filepath.Join(filepath.Dir(s.o.Path), filepath.Base(name)))
		if src == nil {
			s.o.Log.Error("a damaged store is gone before it was copied", zap.String("file", name), zap.Error(err))
			next.lost = true
			continue
		}
		next.old = append(next.old, src)
	}
	s.state.Store(next)
	s.startSalvage()
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
		if err != nil {
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
		c := copier{write: func(batch []*entry) error {
			return s.write(ctx, func(p *planner) error { return p.copyAll(batch) })
		}}
		sc := scan{file: f, found: c.add}
		if err := sc.run(); err != nil {
			return false, err
		}
		if err := c.flush(); err != nil {
			return false, err
		}
		lost = lost || sc.lost
		s.o.Log.Info("what can be read of a damaged store was copied",
			zap.Int("records", c.total), zap.Bool("complete", !sc.lost))
	}
	return lost, nil
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
	st := s.state.Load()
	if !slices.Equal(st.old, files) {
		return false, nil
	}
	f, err := s.writer()
	if err != nil {
		return false, err
	}
	err = f.update(&s.o, true, func(p *planner) error {
		p.put(bucketMeta, metaSources, nil)
		return nil
	})
	if errors.Is(err, errDamage) {
		return false, s.setAside(f, err)
	}
	if err != nil {
		return false, err
	}
	next := &state{cur: f, until: st.until, begun: st.begun}
	if !lost && !st.lost {
		next.until = time.Time{}
	}
	s.state.Store(next)
	for _, old := range files {
		old.close()
	}
	s.salvager = false
	return true, nil
}

// scan finds the records of a damaged file: those that the tree leads to, and,
// if a part of the tree cannot be read, those in pages that nothing leads to.
// A record is taken when its checksum fits.
type scan struct {
	file  *file
	found func(e *entry) error
	lost  bool // a page could not be read
	seen  map[uint64]bool
}

// errStop carries an error of found out of a walk.
type errStop struct{ error }

// run scans the file. The error is one of found.
func (sc *scan) run() error {
	sc.seen = make(map[uint64]bool)
	ps := pager{r: sc.file.r, size: pageSizes[0]}
	if info, err := sc.file.r.Stat(); err == nil {
		ps.high = uint64(info.Size()) / uint64(ps.size)
	}
	m, err := readMeta(sc.file.r)
	free := map[uint64]bool{}
	switch {
	case err == nil:
		ps.size, ps.high = int(m.size), m.high
		free = ps.freePages(m.freelist)
		err = sc.root(&ps, m.root)
	case m.size != 0:
		// What the last commit wrote is where this one has free pages, so
		// nothing is left out.
		ps.high = ps.high * uint64(ps.size) / m.size
		ps.size = int(m.size)
		err = errors.Join(err, sc.root(&ps, m.root))
	}
	var stop errStop
	if errors.As(err, &stop) {
		return stop.error
	}
	sc.lost = sc.lost || err != nil
	if !sc.lost {
		return nil
	}
	return sc.orphans(&ps, free)
}

// freePages returns the pages of the freelist, as far as it can be read.
func (ps *pager) freePages(id uint64) map[uint64]bool {
	free := make(map[uint64]bool)
	if f, err := ps.readFreelist(id); err == nil {
		_ = ps.ids(f, func(id uint64) { free[id] = true }) // as far as it goes
	}
	return free
}

// root finds the bucket of records and walks it.
func (sc *scan) root(ps *pager, id uint64) error {
	p, err := ps.read(id)
	if err != nil {
		return err
	}
	sc.seen[id] = true
	if !p.leaf {
		return errDamage
	}
	i, ok := p.search([]byte(bucketRecords))
	if !ok || !p.isBucket(i) || len(p.value(i)) < bucketSize {
		return errDamage
	}
	value := p.value(i)
	if id := native.Uint64(value); id != 0 {
		return sc.page(ps, id, 0)
	}
	return sc.leaf(value[bucketSize:])
}

// page walks the page id and all below it, past what cannot be read.
func (sc *scan) page(ps *pager, id uint64, depth int) error {
	if sc.seen[id] || depth > maxDepth {
		sc.lost = true
		return nil
	}
	p, err := ps.read(id)
	if err != nil {
		sc.lost = true
		return nil
	}
	sc.seen[id] = true
	if p.leaf {
		return sc.leaf(p.buf)
	}
	for i := range p.count {
		if err := sc.page(ps, p.child(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// orphans looks at all pages that were not seen and are not free.
func (sc *scan) orphans(ps *pager, free map[uint64]bool) error {
	for id := uint64(firstPage); id < ps.high; id++ {
		if sc.seen[id] || free[id] {
			continue
		}
		buf, err := ps.raw(id, 1)
		if err != nil {
			continue
		}
		n := min(uint64(native.Uint32(buf[12:]))+1, maxPageBytes/uint64(ps.size), ps.high-id)
		if native.Uint16(buf[8:]) == flagLeaf && n > 1 {
			if more, err := ps.raw(id, n); err == nil {
				buf = more
			}
		}
		if err := sc.loose(buf); err != nil {
			return err
		}
	}
	return nil
}

// leaf takes what is in a leaf that the tree leads to, also records whose
// checksum does not fit: their domains are known.
func (sc *scan) leaf(buf []byte) error {
	p, _, err := parsePage(buf)
	if err != nil {
		sc.lost = true
		return nil
	}
	for i := range p.count {
		if err := sc.take(p.key(i), p.value(i), true); err != nil {
			return err
		}
	}
	return nil
}

// loose takes the records of a page that may be anything. Only checksums are
// believed.
func (sc *scan) loose(buf []byte) error {
	p := &page{leaf: true, buf: buf}
	for i := range min(int(native.Uint16(buf[10:])), (len(buf)-headerSize)/elementSize) {
		start, key, value := p.element(i)
		if key == 0 || key > 253 || value > maxRecord || start+key+value > uint64(len(buf)) {
			continue
		}
		if err := sc.take(p.key(i), p.value(i), false); err != nil {
			return err
		}
	}
	return nil
}

// take hands a record on, under the name that it has itself. Of one that cannot
// be read the key is all there is.
func (sc *scan) take(key, value []byte, trusted bool) error {
	if len(value) > maxRecord {
		return nil
	}
	domain := string(key)
	if r, err := cache.DecodeRecord(value); err == nil {
		domain = r.Domain.String()
	} else if !trusted {
		return nil
	} else if !names(value, domain) {
		sc.lost = true
		return nil
	}
	if d, err := policy.ParseDomain(domain); err != nil || d.String() != domain {
		sc.lost = true
		return nil
	}
	if err := sc.found(newEntry(domain, slices.Clone(value))); err != nil {
		return errStop{err}
	}
	return nil
}
