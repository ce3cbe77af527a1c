package boltstore

import (
	"errors"
	"fmt"
)

// planner works out what a commit has to change. It reads the state of the
// last commit and what was planned before, and touches no file. A step that
// fails has planned nothing.
type planner struct {
	view  *view
	edits map[indexKey]edit
	// totals are those after the commit.
	totals totals
	// room is how many more bytes may be used by new domains.
	room        int64
	maxFailures int64
	// salvaging says that records may still turn up in a damaged file.
	salvaging bool
	// copying says that records come in the order of their domains.
	copying bool

	// victims are what may give way, and failures those of them.
	victims  []*victims
	failures *victims
}

// edit is the new value of a key; nil means that it goes.
type edit []byte

func newPlanner(v *view, o *Options, salvaging bool) *planner {
	p := &planner{
		view: v, edits: make(map[indexKey]edit), totals: v.totals,
		// A third is left: replacing a record takes free pages first, and
		// those of a large one must lie together.
		room:        o.MaxBytes - o.MaxBytes/3 - v.used(),
		maxFailures: int64(o.MaxFailures),
		salvaging:   salvaging,
	}
	p.failures, p.victims = newVictims(o.now())
	return p
}

// get returns a value as it will be after the commit, or errNone.
func (p *planner) get(bucket, key string) ([]byte, error) {
	if e, ok := p.edits[indexKey{bucket, key}]; ok {
		if e == nil {
			return nil, errNone
		}
		return e, nil
	}
	return p.view.buckets[bucket].find([]byte(key))
}

func (p *planner) put(bucket, key string, value []byte) {
	p.edits[indexKey{bucket, key}] = append(edit{}, value...)
}

func (p *planner) drop(k indexKey) { p.edits[k] = nil }

// load returns what is kept of domain; nil is nothing.
func (p *planner) load(domain string) (*entry, error) {
	data, edited := p.edits[indexKey{bucketRecords, domain}]
	if edited && data == nil {
		return nil, nil
	}
	if edited {
		return newEntry(domain, data), nil
	}
	data, err := p.view.record(domain)
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return newEntry(domain, data), nil
}

// save keeps e in place of what is kept of its domain.
func (p *planner) save(e *entry) error {
	old, err := p.load(e.domain)
	if err != nil {
		return err
	}
	if p.salvaging && old != nil && !old.damaged && old.hasPolicy() && !e.hasPolicy() {
		// Whoever saves this was told that the record is damaged. Meanwhile
		// it has turned up, and a failure never takes the place of a policy.
		kept := old.record
		kept.Failure, kept.LastUse = e.record.Failure, e.record.LastUse
		if e, err = encode(kept); err != nil {
			return err
		}
	}
	if old == nil {
		if err := p.makeRoom(int64(len(e.data) + len(e.domain)*3)); err != nil {
			return err
		}
	}
	p.replace(e.domain, old, e)
	return p.limitFailures()
}

// remove forgets domain.
func (p *planner) remove(domain string) error {
	old, err := p.load(domain)
	if err != nil {
		return err
	}
	if p.salvaging {
		p.put(bucketRemoved, domain, nil)
	}
	if old != nil {
		p.replace(domain, old, nil)
	}
	return nil
}

// copyIn keeps e, which was found in another file, unless what is kept was
// fetched later, or the domain was removed since.
func (p *planner) copyIn(e *entry) error {
	if _, err := p.get(bucketRemoved, e.domain); !errors.Is(err, errNone) {
		return err
	}
	old, err := p.load(e.domain)
	if err != nil {
		return err
	}
	if old != nil && (e.damaged || !old.damaged && !old.record.Fetched.Before(e.record.Fetched)) {
		return nil
	}
	p.replace(e.domain, old, e)
	return nil
}

// replace puts e where old was; each may be nil.
func (p *planner) replace(domain string, old, e *entry) {
	if old != nil {
		for _, k := range old.index() {
			p.drop(k)
		}
		p.count(old, -1)
	}
	if e == nil {
		p.drop(indexKey{bucketRecords, domain})
		return
	}
	p.put(bucketRecords, domain, e.data)
	for _, k := range e.index() {
		p.put(k.bucket, k.key, nil)
	}
	p.count(e, 1)
}

func (p *planner) count(e *entry, n int64) {
	p.totals.records += n
	p.totals.bytes += n * int64(len(e.data))
	if !e.hasPolicy() {
		p.totals.failures += n
	}
}

// finish adds what every commit changes, and reports whether there is anything
// to commit.
func (p *planner) finish() bool {
	if len(p.edits) == 0 {
		return false
	}
	if p.totals != p.view.totals {
		p.put(bucketMeta, metaTotals, p.totals.encode())
	}
	return true
}

// check reads every page that the edits may touch.
func (p *planner) check() error {
	for k := range p.edits {
		if err := p.view.buckets[k.bucket].check([]byte(k.key)); err != nil {
			return fmt.Errorf("bucket %q: %w", k.bucket, err)
		}
	}
	_, err := p.view.readFreelist(p.view.free.id)
	return err
}
