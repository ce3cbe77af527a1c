package cache

import (
	"iter"
	"math"
	"time"
	"unique"

	"tlspolicyd/resolver/policy"
)

// kept is an entry as memory keeps it. A fact has room for whatever may be
// known of a domain, most of which is not known of most domains: of a domain
// without a policy nothing but when its record was looked at. Times are counted
// from the start of memory, by the monotonic clock, as all that waits goes by.
type kept struct {
	looked, recheck time.Duration
	// detail is STS.Detail, if there is no more: most absences have the same.
	detail unique.Handle[string]
	record policy.RecordState
	// used is when the domain was last asked for, in seconds of Unix time, up
	// to the year 2106. It stands for entry.use if there is no more.
	used uint32
	more *more
}

// more is what is known of a domain with a policy, or with DANE facts.
type more struct {
	policy       *policy.STSPolicy
	id           string
	fresh, renew time.Duration
	// What these mean for the life of a policy goes by both clocks.
	fetched, refresh time.Time
	use              *use
	// hop is the DANE fact that was learned first, if there is any.
	hop  keptHop
	rare *rare
}

// rare is what is known of few domains.
type rare struct {
	facts rareFacts
	// hops are the DANE facts but for the first.
	hops []keptHop
}

type rareFacts struct {
	// unknown is entry.known, the other way round.
	unknown bool
	detail  string
	wanted  string
	failure policy.Failure
	churn   policy.Churn
	lost    bool
	damaged time.Time
}

// keptHop is a DANE fact as memory keeps it. The zero value is none.
type keptHop struct {
	there                   bool
	smartHost               bool
	mx                      policy.MXState
	port                    uint16
	learned, expires, renew time.Duration
	more                    *moreOfHop
}

// moreOfHop is what is known of a next-hop with signed MX records, or whose
// lookup failed.
type moreOfHop struct {
	hosts  []policy.MXHost
	detail string
}

// never is the zero time.
const never = math.MinInt64

func (m *memory) since(t time.Time) time.Duration {
	if t.IsZero() {
		return never
	}
	return t.Sub(m.started)
}

func (m *memory) time(d time.Duration) time.Time {
	if d == never {
		return time.Time{}
	}
	return m.started.Add(d)
}

// pack returns e as it is kept.
func (m *memory) pack(e *entry) kept {
	s := &e.sts
	k := kept{looked: m.since(s.Looked), recheck: m.since(s.Recheck), record: s.Record}
	if e.isPlain() {
		k.detail, k.used = unique.Make(s.Detail), uint32(e.use.last.Load())
		return k
	}
	k.more = &more{
		policy: s.Policy, id: s.ID, fetched: s.Fetched, refresh: s.Refresh,
		fresh: m.since(e.fresh), renew: m.since(e.renew), use: e.use,
	}
	r := rare{facts: rareFacts{
		unknown: !e.known, detail: s.Detail, wanted: s.Wanted, failure: s.Failure, churn: s.Churn, lost: s.Lost, damaged: e.damaged,
	}}
	if len(e.hops) > 0 {
		k.more.hop, r.hops = m.packHop(&e.hops[0]), m.packHops(e.hops[1:])
	}
	if r.facts != (rareFacts{}) || len(r.hops) > 0 {
		k.more.rare = &r
	}
	return k
}

// isPlain reports whether nothing is known but that there is no policy.
func (e *entry) isPlain() bool {
	s := &e.sts
	plain := policy.STS{Record: policy.RecordAbsent, Detail: s.Detail, Looked: s.Looked, Recheck: s.Recheck}
	return e.known && e.damaged.IsZero() && len(e.hops) == 0 && *s == plain &&
		e.fresh.Equal(s.Recheck) && e.renew.Equal(lastQuarter(s.Looked, s.Recheck))
}

// unpack makes e what k was made from, but for the DANE facts, and for use if
// there is no more.
func (m *memory) unpack(k *kept, e *entry) {
	s := &e.sts
	s.Looked, s.Recheck, s.Record, e.known = m.time(k.looked), m.time(k.recheck), k.record, true
	if k.more == nil {
		s.Detail, e.fresh, e.renew = k.detail.Value(), s.Recheck, lastQuarter(s.Looked, s.Recheck)
		return
	}
	e.fresh, e.renew, e.use = m.time(k.more.fresh), m.time(k.more.renew), k.more.use
	s.Policy, s.ID, s.Fetched, s.Refresh = k.more.policy, k.more.id, k.more.fetched, k.more.refresh
	if k.more.rare != nil {
		r := &k.more.rare.facts
		e.known, e.damaged = !r.unknown, r.damaged
		s.Detail, s.Wanted, s.Failure, s.Churn, s.Lost = r.detail, r.wanted, r.failure, r.churn, r.lost
	}
}

func (m *memory) packHops(hops []hopFact) []keptHop {
	if len(hops) == 0 {
		return nil
	}
	all := make([]keptHop, len(hops))
	for i := range hops {
		all[i] = m.packHop(&hops[i])
	}
	return all
}

func (m *memory) packHop(h *hopFact) keptHop {
	d := &h.dane
	k := keptHop{
		there: true, port: h.hop.Port, smartHost: h.hop.SmartHost, mx: d.MX,
		learned: m.since(d.Learned), expires: m.since(d.Expires), renew: m.since(h.renew),
	}
	if len(d.Hosts) > 0 || d.Detail != "" {
		k.more = &moreOfHop{d.Hosts, d.Detail}
	}
	return k
}

// hops lists the DANE facts, the latest last.
func (k *more) hops() iter.Seq[*keptHop] {
	return func(yield func(*keptHop) bool) {
		if !k.hop.there || !yield(&k.hop) || k.rare == nil {
			return
		}
		for i := range k.rare.hops {
			if !yield(&k.rare.hops[i]) {
				return
			}
		}
	}
}

func (m *memory) unpackHops(k *more, domain policy.Domain) []hopFact {
	var all []hopFact
	for h := range k.hops() {
		all = append(all, hopFact{})
		m.unpackFact(h, policy.NextHop{Domain: domain, Port: h.port, SmartHost: h.smartHost}, &all[len(all)-1])
	}
	return all
}

// unpackHop makes f the fact of one next-hop, and reports whether there is one.
func (m *memory) unpackHop(k *more, hop policy.NextHop, f *hopFact) bool {
	for h := range k.hops() {
		if h.port == hop.Port && h.smartHost == hop.SmartHost {
			m.unpackFact(h, hop, f)
			return true
		}
	}
	return false
}

// unpackFact makes f, which is empty, what k was made from.
func (m *memory) unpackFact(k *keptHop, hop policy.NextHop, f *hopFact) {
	f.hop, f.renew = hop, m.time(k.renew)
	f.dane.MX, f.dane.Learned, f.dane.Expires = k.mx, m.time(k.learned), m.time(k.expires)
	if k.more != nil {
		f.dane.Hosts, f.dane.Detail = k.more.hosts, k.more.detail
	}
}

// What things take in memory, in bytes, about, without their texts; the place
// in a list and the name of the domain are part of keptBytes, the use of a domain
// and its first next-hop of moreBytes.
const (
	keptBytes = 190
	// entryBytes is for a fact that is not packed.
	entryBytes   = 600
	moreBytes    = 160
	rareBytes    = 230
	policyBytes  = 64
	hopBytes     = 80
	hostBytes    = 50
	patternBytes = 32
)

// size is how many bytes k takes, about, and not much less.
func (k *kept) size() int64 {
	if k.more == nil {
		return int64(keptBytes + len(k.detail.Value()))
	}
	n := keptBytes + moreBytes + policySize(k.more.policy)
	for h := range k.more.hops() {
		n += h.size()
	}
	if r := k.more.rare; r != nil {
		n += rareBytes + len(r.facts.detail) + len(r.facts.failure.Reason)
	}
	return int64(n)
}

func (k *keptHop) size() int {
	n := hopBytes
	if k.more != nil {
		n += len(k.more.detail)
		for _, h := range k.more.hosts {
			n += hostBytes + len(h.Name) + len(h.Detail)
		}
	}
	return n
}

// policySize is how many bytes a policy takes. Its patterns may be copies of
// what is in its text.
func policySize(p *policy.STSPolicy) int {
	if p == nil {
		return 0
	}
	return policyBytes + 2*len(p.Text) + patternBytes*len(p.MX)
}
