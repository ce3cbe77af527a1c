package boltstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sort"
)

// errDamage: the file says what bbolt does not write, or cannot be read.
var errDamage = errors.New("damaged file")

// The format of a bbolt file, version 2, in the byte order of the machine.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	headerSize  = 16 // of a page: id 8, flags 2, count 2, overflow 4
	elementSize = 16 // leaf: flags, pos, key size, value size; branch: pos, key size, page id 8
	metaSize    = 64 // after the header of page 0 and of page 1
	bucketSize  = 16 // of a bucket in a leaf: page id of its root 8, sequence 8

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	bucketFlag   = 0x01 // of an element in a leaf

	// firstPage is the first that is no meta page.
	firstPage = 2
	// countIsFirst in the count of a freelist says that the count is its
	// first id.
	countIsFirst = 0xFFFF
)

// Limits of what is believed of a file.
const (
	maxPageBytes = 8 << 20 // with what runs over; a page holds at least two records
	maxDepth     = 32
)

var native = binary.NativeEndian

// pager reads the pages of a file and believes nothing: whatever the bytes
// are, it neither panics nor allocates more than maxPageBytes, and a page that
// bbolt would not have written is an error.
type pager struct {
	r    io.ReaderAt
	size int    // of a page
	high uint64 // ids are below
	// known are pages that were read; nil means that they are not kept.
	known map[uint64]*page
}

// page is a leaf or a branch whose elements are known to lie inside it.
type page struct {
	leaf  bool
	count int
	buf   []byte
}

// read reads page id.
func (ps *pager) read(id uint64) (*page, error) {
	if p := ps.known[id]; p != nil {
		return p, nil
	}
	if id < firstPage || id >= ps.high {
		return nil, fmt.Errorf("%w: page %d is out of bounds", errDamage, id)
	}
	buf, err := ps.raw(id, 1)
	if err != nil {
		return nil, err
	}
	p, err := ps.parse(id, buf)
	if err == nil && ps.known != nil {
		ps.known[id] = p
	}
	return p, err
}

// parse checks page id, of which buf is the first part, and reads the rest.
func (ps *pager) parse(id uint64, buf []byte) (*page, error) {
	if got := native.Uint64(buf); got != id {
		return nil, fmt.Errorf("%w: page %d says that it is %d", errDamage, id, got)
	}
	overflow := uint64(native.Uint32(buf[12:]))
	if overflow > 0 {
		var err error
		if buf, err = ps.raw(id, overflow+1); err != nil {
			return nil, err
		}
	}
	p, used, err := parsePage(buf)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	if want := (used + ps.size - 1) / ps.size; uint64(want) != overflow+1 {
		return nil, fmt.Errorf("%w: page %d runs over by %d", errDamage, id, overflow)
	}
	return p, nil
}

// raw reads the bytes of n pages from id on.
func (ps *pager) raw(id, n uint64) ([]byte, error) {
	if n > maxPageBytes/uint64(ps.size) || id+n > ps.high {
		return nil, fmt.Errorf("%w: page %d runs over by %d", errDamage, id, n-1)
	}
	buf := make([]byte, int(n)*ps.size)
	if _, err := ps.r.ReadAt(buf, int64(id)*int64(ps.size)); err != nil {
		return nil, fmt.Errorf("%w: page %d: %w", errDamage, id, err)
	}
	return buf, nil
}

// parsePage checks a leaf or branch and returns how many bytes of it are used:
// the elements, then their keys and values without gaps, keys in order.
func parsePage(buf []byte) (*page, int, error) {
	if len(buf) < headerSize {
		return nil, 0, fmt.Errorf("%w: a page of %d bytes", errDamage, len(buf))
	}
	flags := native.Uint16(buf[8:])
	p := &page{leaf: flags == flagLeaf, count: int(native.Uint16(buf[10:])), buf: buf}
	if !p.leaf && (flags != flagBranch || p.count == 0) {
		return nil, 0, fmt.Errorf("%w: flags %#x with %d elements", errDamage, flags, p.count)
	}
	used, err := p.checkElements(headerSize + p.count*elementSize)
	return p, used, err
}

// checkElements checks that the keys and values begin at next and follow each
// other, and returns where they end.
func (p *page) checkElements(next int) (int, error) {
	if next > len(p.buf) {
		return 0, fmt.Errorf("%w: %d elements", errDamage, p.count)
	}
	var last []byte
	for i := range p.count {
		start, key, value := p.element(i)
		if start != uint64(next) || key == 0 || start+key+value > uint64(len(p.buf)) {
			return 0, fmt.Errorf("%w: element %d at %d+%d+%d", errDamage, i, start, key, value)
		}
		if bytes.Compare(last, p.key(i)) >= 0 {
			return 0, fmt.Errorf("%w: key %d is not in order", errDamage, i)
		}
		last = p.key(i)
		next += int(key + value)
	}
	return next, nil
}

// element returns where the key of element i starts, and the sizes of key and
// value.
func (p *page) element(i int) (start, key, value uint64) {
	at := headerSize + i*elementSize
	e := p.buf[at:]
	if p.leaf {
		return uint64(at) + uint64(native.Uint32(e[4:])), uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
	}
	return uint64(at) + uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])), 0
}

func (p *page) key(i int) []byte {
	start, key, _ := p.element(i)
	return p.buf[start : start+key : start+key]
}

func (p *page) value(i int) []byte {
	start, key, value := p.element(i)
	return p.buf[start+key : start+key+value : start+key+value]
}

// isBucket reports whether element i of a leaf is a bucket.
func (p *page) isBucket(i int) bool {
	return native.Uint32(p.buf[headerSize+i*elementSize:])&bucketFlag != 0
}

// child returns the page id of element i of a branch.
func (p *page) child(i int) uint64 {
	return native.Uint64(p.buf[headerSize+i*elementSize+8:])
}

// search returns the place of the first key that is not below key, and whether
// it is that key.
func (p *page) search(key []byte) (int, bool) {
	return sort.Find(p.count, func(i int) int { return bytes.Compare(key, p.key(i)) })
}

// meta is a meta page: where the state of the file after one commit begins.
type meta struct {
	size, root, freelist, high, txid uint64
}

// parseMeta reads what follows the header of a meta page.
func parseMeta(b []byte) (meta, bool) {
	m := meta{
		size: uint64(native.Uint32(b[8:])), root: native.Uint64(b[16:]), freelist: native.Uint64(b[32:]),
		high: native.Uint64(b[40:]), txid: native.Uint64(b[48:]),
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	ok := native.Uint32(b) == boltMagic && native.Uint32(b[4:]) == boltVersion &&
		native.Uint64(b[56:]) == sum.Sum64() && slices.Contains(pageSizes, int(m.size))
	return m, ok
}

// pageSizes are the sizes of pages that systems have.
var pageSizes = []int{4 << 10, 1 << 10, 2 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10}

// readMeta returns the meta page of the last commit. There are two, written in
// turn; when one is not valid, it was either being written when the machine
// stopped, or it is damaged, and then the other is that of an older commit: so
// it comes with an error that wraps errDamage. With neither, its size is zero.
func readMeta(r io.ReaderAt) (meta, error) {
	found := readMetas(r)
	switch len(found) {
	case 0:
		return meta{}, fmt.Errorf("%w: no valid meta page", errDamage)
	case 1:
		return found[0], fmt.Errorf("%w: one meta page is not valid", errDamage)
	default:
		return found[0], nil
	}
}

// readMetas returns the valid meta pages, that of the last commit first.
func readMetas(r io.ReaderAt) []meta {
	var found []meta
	for _, at := range append([]int{0}, pageSizes...) {
		var b [headerSize + metaSize]byte
		if _, err := r.ReadAt(b[:], int64(at)); err != nil {
			continue
		}
		if m, ok := parseMeta(b[headerSize:]); ok && (at == 0 || uint64(at) == m.size) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b meta) int { return cmp.Compare(b.txid, a.txid) })
	return found
}

// freelist is the head of the list of free pages.
type freelist struct {
	id       uint64
	count    int // of free pages
	overflow uint64
	skip     int // what goes before the first id
}

// readFreelist checks the head of the freelist at page id.
func (ps *pager) readFreelist(id uint64) (freelist, error) {
	var b [headerSize + 8]byte
	if id < firstPage || id >= ps.high {
		return freelist{}, fmt.Errorf("%w: freelist at page %d", errDamage, id)
	}
	if _, err := ps.r.ReadAt(b[:], int64(id)*int64(ps.size)); err != nil {
		return freelist{}, fmt.Errorf("%w: freelist: %w", errDamage, err)
	}
	f := freelist{id: id, overflow: uint64(native.Uint32(b[12:])), skip: headerSize}
	count := uint64(native.Uint16(b[10:]))
	if count == countIsFirst {
		count, f.skip = native.Uint64(b[headerSize:]), headerSize+8
	}
	f.count = int(min(count, ps.high))
	if native.Uint64(b[:]) != id || native.Uint16(b[8:]) != flagFreelist || count >= ps.high {
		return freelist{}, fmt.Errorf("%w: page %d is no freelist of %d pages", errDamage, id, count)
	}
	if !ps.fits(f) {
		return freelist{}, fmt.Errorf("%w: the freelist runs over by %d", errDamage, f.overflow)
	}
	return f, nil
}

// fits reports whether a freelist takes as many pages as it must. It was made
// for as many ids as were free before it took its own pages.
func (ps *pager) fits(f freelist) bool {
	least, most := ps.freelistPages(f.count), ps.freelistPages(f.count+int(min(f.overflow, ps.high))+1)
	return f.overflow+1 >= least && f.overflow+1 <= most && f.id+f.overflow < ps.high
}

// freelistPages is how many pages bbolt takes for a freelist of n ids.
func (ps *pager) freelistPages(n int) uint64 {
	if n >= countIsFirst {
		n++
	}
	return uint64((headerSize+8*n)/ps.size) + 1
}

// ids calls each with every free page; they must be in order.
func (ps *pager) ids(f freelist, each func(id uint64)) error {
	in := io.NewSectionReader(ps.r, int64(f.id)*int64(ps.size)+int64(f.skip), int64(f.count)*8)
	buf := make([]byte, 64<<10)
	last := uint64(firstPage - 1)
	for {
		n, err := io.ReadFull(in, buf)
		for b := buf[:n]; len(b) >= 8; b = b[8:] {
			id := native.Uint64(b)
			if id <= last || id >= ps.high {
				return fmt.Errorf("%w: free page %d after %d", errDamage, id, last)
			}
			last = id
			each(id)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: freelist: %w", errDamage, err)
		}
	}
}
