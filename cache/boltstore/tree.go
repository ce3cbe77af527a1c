package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"tlspolicyd/cache"
)

// errNone: the tree does not have the key.
var errNone = errors.New("no such key")

// tree is a bucket: a B+ tree of pages, or a single page inside its parent.
type tree struct {
	*pager
	root   uint64
	inline *page
}

// view is the state of a file after a commit. Pages of a view are not written
// to as long as it is in use (see readers).
type view struct {
	pager
	root    uint64 // page id of the root of the file
	free    freelist
	buckets map[string]tree
	format  byte
	totals  totals
}

// readView reads where the last commit left a file of so many bytes.
func readView(r io.ReaderAt, bytes int64) (*view, error) {
	m, err := readMeta(r)
	if err != nil {
		return nil, err
	}
	if m.high <= firstPage || m.high > uint64(bytes)/m.size {
		return nil, fmt.Errorf("%w: %d pages in a file of %d bytes", errDamage, m.high, bytes)
	}
	v := &view{pager: pager{r: r, size: int(m.size), high: m.high}, root: m.root}
	if v.free, err = v.readFreelist(m.freelist); err != nil {
		return nil, err
	}
	return v, v.readBuckets()
}

// keeping returns the view with a memory for its pages: for a commit, which
// comes by the same ones again and again.
func (v *view) keeping() *view {
	kept := *v
	kept.known = make(map[uint64]*page)
	kept.buckets = make(map[string]tree, len(v.buckets))
	for name, t := range v.buckets {
		t.pager = &kept.pager
		kept.buckets[name] = t
	}
	return &kept
}

// readBuckets finds the buckets in the root of the file, and what bucket meta
// says.
func (v *view) readBuckets() error {
	p, err := v.read(v.root)
	if err != nil {
		return err
	}
	if !p.leaf {
		return fmt.Errorf("%w: the root is a branch", errDamage)
	}
	v.buckets = make(map[string]tree, p.count)
	for i := range p.count {
		t := tree{pager: &v.pager}
		value := p.value(i)
		if !p.isBucket(i) || len(value) < bucketSize {
			return fmt.Errorf("%w: element %d of the root is no bucket", errDamage, i)
		}
		if t.root = native.Uint64(value); t.root == 0 {
			if t.inline, err = parseInline(value[bucketSize:]); err != nil {
				return err
			}
		}
		v.buckets[string(p.key(i))] = t
	}
	return v.readMetaBucket()
}

// parseInline reads the page of a bucket that is kept inside its parent.
func parseInline(b []byte) (*page, error) {
	p, used, err := parsePage(b)
	if err != nil {
		return nil, err
	}
	if !p.leaf || used != len(b) {
		return nil, fmt.Errorf("%w: a bucket of %d bytes uses %d", errDamage, len(b), used)
	}
	return p, nil
}

// top returns the page that the tree begins with.
func (t tree) top() (*page, error) {
	if t.inline != nil {
		return t.inline, nil
	}
	if t.pager == nil {
		return nil, fmt.Errorf("%w: a bucket is missing", errDamage)
	}
	return t.read(t.root)
}

// descend returns page i below the branch p: its keys must lie between those
// of the branch.
func (t tree) descend(p *page, i, depth int) (*page, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: a tree of more than %d levels", errDamage, maxDepth)
	}
	c, err := t.read(p.child(i))
	if err != nil {
		return nil, err
	}
	if c.count == 0 || bytes.Compare(c.key(0), p.key(i)) < 0 ||
		i+1 < p.count && bytes.Compare(c.key(c.count-1), p.key(i+1)) >= 0 {
		return nil, fmt.Errorf("%w: page %d does not fit where it is", errDamage, p.child(i))
	}
	return c, nil
}

// way returns the place below the branch p where key is.
func (p *page) way(key []byte) int {
	i, exact := p.search(key)
	if !exact && i > 0 {
		i--
	}
	return i
}

// find returns the value of key, or errNone.
func (t tree) find(key []byte) ([]byte, error) {
	p, err := t.top()
	for depth := 0; err == nil && !p.leaf; depth++ {
		p, err = t.descend(p, p.way(key), depth)
	}
	if err != nil {
		return nil, err
	}
	i, exact := p.search(key)
	if !exact || p.isBucket(i) {
		return nil, errNone
	}
	return p.value(i), nil
}

// check reads every page that a change of key may touch: the way to it, and
// the pages next to the way, which bbolt merges with it. bbolt itself trusts
// the lengths and page numbers that it finds: with wrong ones it may take all
// memory or never end, from which no recover helps.
func (t tree) check(key []byte) error {
	p, err := t.top()
	for depth := 0; err == nil && !p.leaf; depth++ {
		at := p.way(key)
		var way *page
		for i := max(at-1, 0); i <= at+1 && i < p.count; i++ {
			c, err := t.descend(p, i, depth)
			if err != nil {
				return err
			}
			if i == at {
				way = c
			}
		}
		p = way
	}
	return err
}

// walk calls each with the keys from from on and their values, in order, until
// it returns false.
func (t tree) walk(from []byte, each func(key, value []byte) bool) error {
	p, err := t.top()
	if err != nil {
		return err
	}
	_, err = t.walkPage(p, from, 0, each)
	return err
}

func (t tree) walkPage(p *page, from []byte, depth int, each func(key, value []byte) bool) (bool, error) {
	if p.leaf {
		for i, _ := p.search(from); i < p.count; i++ {
			if !each(p.key(i), p.value(i)) {
				return false, nil
			}
		}
		return true, nil
	}
	for i := p.way(from); i < p.count; i++ {
		c, err := t.descend(p, i, depth)
		if err != nil {
			return false, err
		}
		if more, err := t.walkPage(c, from, depth+1, each); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// before returns the last key below key, and its value; nil if there is none.
// It fails if it comes upon key itself, which is then not where find looks.
func (t tree) before(p *page, key []byte, depth int) (k, value []byte, err error) {
	if p.leaf {
		i, exact := p.search(key)
		if exact {
			return nil, nil, fmt.Errorf("%w: key %q is not where it belongs", errDamage, key)
		}
		if i == 0 {
			return nil, nil, nil
		}
		return p.key(i - 1), p.value(i - 1), nil
	}
	for i := p.way(key); i >= 0; i-- {
		c, err := t.descend(p, i, depth)
		if err != nil {
			return nil, nil, err
		}
		if k, value, err = t.before(c, key, depth+1); k != nil || err != nil {
			return k, value, err
		}
	}
	return nil, nil, nil
}

// after returns the first key above key, and its value; nil if there is none.
// It fails if it comes upon key itself.
func (t tree) after(key []byte) (k, value []byte, err error) {
	err = t.walk(key, func(next, v []byte) bool {
		k, value = next, v
		return false
	})
	if err == nil && bytes.Equal(k, key) {
		err = fmt.Errorf("%w: key %q is not where it belongs", errDamage, key)
	}
	return k, value, err
}

// record returns the record of a domain, or errNone. Keys have no checksum of
// their own, so before a domain is said to be absent, the keys beside its
// place are compared with their records: a damaged key is found in this way,
// since it can only stand where the right one stood.
func (v *view) record(domain string) ([]byte, error) {
	t := v.buckets[bucketRecords]
	data, err := t.find([]byte(domain))
	if !errors.Is(err, errNone) {
		return data, err
	}
	p, err := t.top()
	if err != nil {
		return nil, err
	}
	k, value, err := t.before(p, []byte(domain), 0)
	if err == nil {
		err = checkKey(k, value)
	}
	if err != nil {
		return nil, err
	}
	if k, value, err = t.after([]byte(domain)); err == nil {
		err = checkKey(k, value)
	}
	if err != nil {
		return nil, err
	}
	return nil, errNone
}

// checkKey fails if the record of a domain is kept under another name, or if
// it cannot be read so that nobody knows.
func checkKey(key, value []byte) error {
	if key == nil {
		return nil
	}
	r, err := cache.DecodeRecord(value)
	if err == nil && r.Domain.String() == string(key) || err != nil && names(value, string(key)) {
		return nil
	}
	return fmt.Errorf("%w: key %q leads to the record of %q", errDamage, key, r.Domain)
}

// names reports whether a record that cannot be read seems to be of domain:
// its name is in it where it belongs.
func names(value []byte, domain string) bool {
	const head, nameAt = 5, `{"d":"` // see cache.Record.Encode
	return len(value) > head && bytes.HasPrefix(value[head:], []byte(nameAt+domain+`"`))
}
