package cache

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"tlspolicyd/resolver/policy"
)

const (
	// maxHops is the number of next-hops of one domain whose DANE facts are
	// kept.
	maxHops = 8
	// bytesPerPolicy times the number of policies is about how many bytes are
	// kept of policies, and bytesPerAbsence is the same for absences: among
	// those are policies that have expired, and DANE facts.
	bytesPerPolicy  = 4 << 10
	bytesPerAbsence = 1 << 10
	// lostFresh is how long the network's word is enough for a domain of
	// which the store cannot say what it knew. Then both are asked again.
	lostFresh = 5 * time.Second
	// minRenew is the least time between two renewals of a DANE fact.
	minRenew = time.Second
)

// entry is what is remembered of a domain. It is never changed, but for use;
// writers put a changed copy in its place.
type entry struct {
	sts policy.STS
	// known says that sts was read from the store or learned. If it is not
	// set, only the DANE facts count.
	known bool
	// damaged is when the store was first seen not to know what it held of
	// the domain; zero if it does.
	damaged time.Time
	// fresh is until when sts is good while no policy is in force, and renew
	// from when on a hit begins a look in the background.
	fresh, renew time.Time
	// hops are the DANE facts, the latest last.
	hops []hopFact
	use  *use
}

// hopFact is the DANE fact of one next-hop; from renew on a hit begins another
// lookup in the background.
type hopFact struct {
	hop   policy.NextHop
	dane  policy.DANE
	renew time.Time
}

// use is when a domain was last asked for, in seconds of Unix time, and what
// the store knows of that. All copies of an entry share it.
type use struct {
	last, saved seconds
	// marked is when it was last marked to be written.
	marked seconds
	// fetched is the time of the fetch as the store has it, where that lies in
	// the future; else zero.
	fetched seconds
}

// seconds is a time in seconds of Unix time, from 1970 to 2106: a time outside
// of that becomes the one of these that is nearer. There are four for each
// domain, so they are kept small.
type seconds struct{ v atomic.Uint32 }

func (t *seconds) Load() int64   { return int64(t.v.Load()) }
func (t *seconds) Store(s int64) { t.v.Store(uint32(min(max(s, 0), math.MaxUint32))) }

// settled reports whether the STS fact can be answered from at now.
func (e *entry) settled(now time.Time) bool {
	return e.known && (e.sts.InForce(now) || now.Before(e.fresh))
}

// hop returns the DANE fact of a next-hop, or nil.
func (e *entry) hop(hop policy.NextHop) *hopFact {
	for i := range e.hops {
		if e.hops[i].hop == hop {
			return &e.hops[i]
		}
	}
	return nil
}

// withSTS returns a copy of e, which may be nil, with the fact sts learned at
// now.
func (e *entry) withSTS(now time.Time, sts *policy.STS, u *use) *entry {
	next := &entry{sts: *sts, known: true, fresh: sts.Recheck, renew: sts.Recheck, use: u}
	if e != nil {
		next.hops = e.hops
	}
	switch end := sts.Expires(); {
	case sts.InForce(now) && end.After(now):
		if end.Before(next.fresh) {
			next.fresh = end
		}
	case sts.Lost:
		if again := now.Add(lostFresh); again.Before(next.fresh) {
			next.fresh, next.renew = again, again
		}
	case sts.Record != policy.RecordFound:
		// A busy domain never waits for an absence to be renewed. A
		// record whose policy could not be fetched is another thing: it
		// is not known that there is nothing to wait for.
		next.renew = lastQuarter(sts.Looked, sts.Recheck)
	}
	return next
}

// askStoreAt has the next question after a time look the domain up anew, store
// and all, which may be able to say by then what it held.
func (e *entry) askStoreAt(at time.Time) {
	if at.Before(e.fresh) {
		e.fresh = at
	}
	if at.Before(e.renew) {
		e.renew = at
	}
}

// withHop returns a copy of e, which may be nil, with the fact dane learned at
// now.
func (e *entry) withHop(now time.Time, hop policy.NextHop, dane policy.DANE) *entry {
	next := &entry{use: &use{}}
	if e != nil {
		*next = *e
	}
	next.hops = slices.DeleteFunc(slices.Clone(next.hops), func(h hopFact) bool { return h.hop == hop })
	if len(next.hops) >= maxHops {
		next.hops = next.hops[len(next.hops)-maxHops+1:]
	}
	renew := lastQuarter(dane.Learned, dane.Expires)
	if soon := now.Add(minRenew); renew.Before(soon) {
		renew = soon
	}
	next.hops = append(next.hops, hopFact{hop: hop, dane: dane, renew: renew})
	return next
}

// lastQuarter returns when the last quarter of a life begins.
func lastQuarter(from, to time.Time) time.Time {
	return to.Add(-to.Sub(from) / 4)
}

// memory keeps entries, policies apart from absences, so that however many
// domains without a policy are asked for, none with one is forgotten.
type memory struct {
	// started is what the times of what is kept are counted from.
	started time.Time

	// mu guards the lists.
	mu                 sync.Mutex
	policies, absences *list
}

func newMemory(size int) (*memory, error) {
	policies, err := newList(size, int64(size)*bytesPerPolicy)
	if err != nil {
		return nil, err
	}
	absences, err := newList(size, int64(size)*bytesPerAbsence)
	return &memory{started: time.Now(), policies: policies, absences: absences}, err
}

// list keeps the entries that were used last, as far as their number and their
// size allow.
type list struct {
	*simplelru.LRU[policy.Domain, kept]
	bytes, max int64
}

func newList(size int, maxBytes int64) (*list, error) {
	l := &list{max: maxBytes}
	var err error
	l.LRU, err = simplelru.NewLRU(size, func(_ policy.Domain, k kept) { l.bytes -= k.size() })
	return l, err
}

// put keeps k, and at least k.
func (l *list) put(domain policy.Domain, k kept) {
	l.Remove(domain)
	l.bytes += k.size()
	l.Add(domain, k)
	for l.bytes > l.max && l.Len() > 1 {
		l.RemoveOldest()
	}
}

// found is what a question finds in memory: the entry of its domain, with the
// DANE fact of its own next-hop apart.
type found struct {
	entry
	hop    hopFact
	hasHop bool
}

// get looks up what is known of a next-hop that is asked for, and reports
// whether that is anything.
func (m *memory) get(hop policy.NextHop, f *found) bool {
	m.mu.Lock()
	k, ok := m.policies.Get(hop.Domain)
	if !ok {
		k, ok = m.absences.Get(hop.Domain)
	}
	m.mu.Unlock()
	if !ok {
		return false
	}
	m.unpack(&k, &f.entry)
	if k.more != nil {
		f.hasHop = m.unpackHop(k.more, hop, &f.hop)
	}
	return true
}

// peek returns all that is known of a domain, for who does not ask on behalf
// of mail; nil if that is nothing.
func (m *memory) peek(domain policy.Domain) *entry {
	m.mu.Lock()
	k, ok := m.policies.Peek(domain)
	if !ok {
		k, ok = m.absences.Peek(domain)
	}
	m.mu.Unlock()
	if !ok {
		return nil
	}
	e := &entry{}
	m.unpack(&k, e)
	if k.more == nil {
		e.use = &use{}
		e.use.last.Store(int64(k.used))
		return e
	}
	e.hops = m.unpackHops(k.more, domain)
	return e
}

// put keeps e, among the policies if it has one in force at now.
func (m *memory) put(now time.Time, domain policy.Domain, e *entry) {
	k := m.pack(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.policies.Remove(domain)
	if !e.sts.InForce(now) {
		m.absences.put(domain, k)
		return
	}
	m.absences.Remove(domain)
	m.policies.put(domain, k)
}

func (m *memory) len() (policies, absences int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.policies.Len(), m.absences.Len()
}
