package boltstore

import (
	"errors"
	"io"
	"slices"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// scan finds the records of a damaged file: those that the tree leads to, and,
// if a part of the tree cannot be read, those in pages that nothing leads to.
// A record is taken when its checksum fits.
type scan struct {
	r     io.ReaderAt
	bytes int64
	found func(e *entry) error
	lost  bool // something could not be read
	seen  map[uint64]bool
	last  *view // the last commit, if all of its tree was read without its meta page
}

// foundError carries an error of found out of a walk.
type foundError struct{ error }

// scan hands all records of the file that can be found to found. The error is
// one of found.
func (f *file) scan(found func(e *entry) error) (*scan, error) {
	sc := &scan{r: f.r, found: found}
	if info, err := f.r.Stat(); err == nil {
		sc.bytes = info.Size()
	}
	return sc, sc.run()
}

func (sc *scan) run() error {
	sc.seen = make(map[uint64]bool)
	ps := pager{r: sc.r, size: pageSizes[0], high: uint64(sc.bytes) / uint64(pageSizes[0])}
	m, err := readMeta(sc.r)
	free := map[uint64]bool{}
	if err == nil {
		ps.size, ps.high = int(m.size), min(m.high, uint64(sc.bytes)/m.size)
		free = ps.freePages(m.freelist)
		err = sc.root(&ps, m.root)
	} else {
		var whole bool
		if whole, err = sc.withoutMeta(&ps, m, err); whole {
			sc.lost = true // there may have been a later one
			return nil
		}
	}
	var stop foundError
	if errors.As(err, &stop) {
		return stop.error
	}
	sc.lost = sc.lost || err != nil
	if !sc.lost {
		return nil
	}
	return sc.orphans(&ps, free)
}

// withoutMeta walks the tree of the last commit, as far as that can be known without
// its meta page, and reports whether all of it was read. Then no other page matters:
// in those that are free by now is what was removed. Otherwise nothing is left out,
// since what the last commit wrote is where m, that of an older one, has free pages.
func (sc *scan) withoutMeta(ps *pager, m meta, cause error) (whole bool, err error) {
	if m.size != 0 {
		ps.size, ps.high = int(m.size), uint64(sc.bytes)/m.size
	}
	if id, ok := ps.lastRoot(); ok {
		if err := sc.root(ps, id); err != nil {
			return false, errors.Join(cause, err)
		}
		if !sc.lost {
			sc.last = &view{pager: *ps, root: id}
			_ = sc.last.readBuckets() // as far as it goes
			return true, nil
		}
	}
	if m.size == 0 || sc.seen[m.root] {
		return false, cause
	}
	return false, errors.Join(cause, sc.root(ps, m.root))
}

// lastRoot finds the root of the last commit among all pages of a file: each commit
// adds one to the sequence of bucketMeta. If two claim to be it, neither is.
func (ps *pager) lastRoot() (last uint64, ok bool) {
	var most uint64
	for id := uint64(firstPage); id < ps.high; id++ {
		n := ps.rootSequence(id)
		if n > most {
			last, most, ok = id, n, true
		} else if n == most {
			ok = false
		}
	}
	return last, ok
}

// rootSequence is the sequence of bucketMeta in the root of a commit; zero in any
// other page.
func (ps *pager) rootSequence(id uint64) uint64 {
	buf, err := ps.raw(id, 1)
	if err != nil || native.Uint16(buf[8:]) != flagLeaf || int(native.Uint16(buf[10:])) != len(buckets) {
		return 0
	}
	p, err := ps.parse(id, buf)
	if err != nil {
		return 0
	}
	i, ok := p.search([]byte(bucketMeta))
	if !ok || !p.isBucket(i) || len(p.value(i)) < bucketSize {
		return 0
	}
	return native.Uint64(p.value(i)[8:])
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
		return foundError{err}
	}
	return nil
}
