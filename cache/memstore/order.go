package memstore

import (
	"container/heap"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// The orders that an entry may be in.
const (
	byRefresh = iota
	byExpiry
	byMark
	byFailure
	orders
)

// entry is a record in the store. Its data is never changed.
type entry struct {
	domain  policy.Domain
	data    []byte
	policy  bool
	refresh int64 // seconds of Unix time; 0 means never
	end     int64 // of the policy, or the time of the failure
	mark    int64 // running time at which the policy was seen expired
	// at is the place in each order, counted from 1; 0 means not in it.
	at [orders]int
}

func newEntry(r *cache.Record, data []byte) *entry {
	e := &entry{domain: r.Domain, data: data, policy: !r.Fetched.IsZero()}
	if !r.Refresh.IsZero() {
		e.refresh = r.Refresh.Unix()
	}
	end := r.Failure.At
	if e.policy {
		end = r.Expires
	}
	if end.IsZero() {
		end = time.Unix(0, 0)
	}
	e.end = end.Unix()
	return e
}

func (e *entry) size() int64 { return int64(len(e.data)+len(e.domain.String())) + overhead }

// order is a heap of entries, the earliest first.
type order struct {
	id      int
	entries []*entry
}

func (o *order) key(e *entry) int64 {
	switch o.id {
	case byRefresh:
		return e.refresh
	case byMark:
		return e.mark
	default:
		return e.end
	}
}

func (o *order) len() int { return len(o.entries) }

// first returns the earliest entry; there must be one.
func (o *order) first() *entry { return o.entries[0] }

func (o *order) add(e *entry) { heap.Push((*byKey)(o), e) }

// drop takes e out, if it is in.
func (o *order) drop(e *entry) {
	if at := e.at[o.id]; at > 0 {
		heap.Remove((*byKey)(o), at-1)
	}
}

// upTo returns the domains of the first n entries that are not after limit, in
// order, and leaves the order as it is: it walks down the heap from the top
// and looks at no more than two entries for each that it returns.
func (o *order) upTo(limit int64, n int) []policy.Domain {
	if len(o.entries) == 0 {
		return nil
	}
	var found []policy.Domain
	next := frontier{order: o, places: []int{0}}
	for len(found) < n && len(next.places) > 0 {
		at := heap.Pop(&next).(int)
		e := o.entries[at]
		if o.key(e) > limit {
			break
		}
		found = append(found, e.domain)
		for child := 2*at + 1; child <= 2*at+2 && child < len(o.entries); child++ {
			heap.Push(&next, child)
		}
	}
	return found
}

// less orders entries by key, then by name, so that the order is the same at
// every call.
func (o *order) less(i, j int) bool {
	a, b := o.entries[i], o.entries[j]
	if ka, kb := o.key(a), o.key(b); ka != kb {
		return ka < kb
	}
	return a.domain.String() < b.domain.String()
}

// byKey is an order as a heap.Interface.
type byKey order

func (h *byKey) Len() int           { return len(h.entries) }
func (h *byKey) Less(i, j int) bool { return (*order)(h).less(i, j) }

func (h *byKey) Swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].at[h.id], h.entries[j].at[h.id] = i+1, j+1
}

func (h *byKey) Push(x any) {
	e := x.(*entry)
	h.entries = append(h.entries, e)
	e.at[h.id] = len(h.entries)
}

func (h *byKey) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	e.at[h.id] = 0
	return e
}

// frontier is the edge of the part of an order that was walked: a heap of
// places in it.
type frontier struct {
	order  *order
	places []int
}

func (f *frontier) Len() int           { return len(f.places) }
func (f *frontier) Less(i, j int) bool { return f.order.less(f.places[i], f.places[j]) }
func (f *frontier) Swap(i, j int)      { f.places[i], f.places[j] = f.places[j], f.places[i] }
func (f *frontier) Push(x any)         { f.places = append(f.places, x.(int)) }

func (f *frontier) Pop() any {
	last := len(f.places) - 1
	at := f.places[last]
	f.places = f.places[:last]
	return at
}
