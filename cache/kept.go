package cache

import (
	"math"
	"time"

	"tlspolicyd/resolver/policy"
)

// kept is an entry as memory keeps it. A fact has room for whatever may be
// known of a domain, most of which is not known of most domains: of a domain
// without a policy nothing but when its record was looked at. Times are counted
// from the start of memory, by the monotonic clock, as all that waits goes by.
type kept struct {
	looked, recheck time.Duration
	detail          string
	record          policy.RecordState
	// used is when the domain was last asked for, in seconds of Unix time. It
	// stands for entry.use if there is no more.
	used int64
	more *more
}

// more is what is known of a domain with a policy, or with DANE facts.
type more struct {
	known        bool
	policy       *policy.STSPolicy
	id           string
	fresh, renew time.Duration
	// What these mean for the life of a policy goes by both clocks.
	fetched, refresh time.Time
	use              *use
	hops             []keptHop
	rare             *rare
}

// rare is what is known of few domains.
type rare struct {
	wanted  string
	failure policy.Failure
	churn   policy.Churn
	lost    bool
	damaged time.Time
}

// keptHop is a DANE fact as memory keeps it.
type keptHop struct {
	port                    uint16
	smartHost               bool
	mx                      policy.MXState
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
	k := kept{looked: m.since(s.Looked), recheck: m.since(s.Recheck), detail: s.Detail, record: s.Record}
	if e.isPlain() {
		k.used = e.use.last.Load()
		return k
	}
	k.more = &more{
		known: e.known, policy: s.Policy, id: s.ID, fetched: s.Fetched, refresh: s.Refresh,
		fresh: m.since(e.fresh), renew: m.since(e.renew), use: e.use, hops: m.packHops(e.hops),
	}
	r := rare{wanted: s.Wanted, failure: s.Failure, churn: s.Churn, lost: s.Lost, damaged: e.damaged}
	if r != (rare{}) {
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
	s.Looked, s.Recheck, s.Detail, s.Record = m.time(k.looked), m.time(k.recheck), k.detail, k.record
	if k.more == nil {
		e.known, e.fresh, e.renew = true, s.Recheck, lastQuarter(s.Looked, s.Recheck)
		return
	}
	e.known, e.use = k.more.known, k.more.use
	e.fresh, e.renew = m.time(k.more.fresh), m.time(k.more.renew)
	s.Policy, s.ID, s.Fetched, s.Refresh = k.more.policy, k.more.id, k.more.fetched, k.more.refresh
	if r := k.more.rare; r != nil {
		s.Wanted, s.Failure, s.Churn, s.Lost, e.damaged = r.wanted, r.failure, r.churn, r.lost, r.damaged
	}
}

func (m *memory) packHops(hops []hopFact) []keptHop {
	if len(hops) == 0 {
		return nil
	}
	all := make([]keptHop, len(hops))
	for i := range hops {
		h, d := &hops[i], &hops[i].dane
		all[i] = keptHop{
			port: h.hop.Port, smartHost: h.hop.SmartHost, mx: d.MX,
			learned: m.since(d.Learned), expires: m.since(d.Expires), renew: m.since(h.renew),
		}
		if len(d.Hosts) > 0 || d.Detail != "" {
			all[i].more = &moreOfHop{d.Hosts, d.Detail}
		}
	}
	return all
}

func (m *memory) unpackHops(hops []keptHop, domain policy.Domain) []hopFact {
	all := make([]hopFact, len(hops))
	for i := range hops {
		hop := policy.NextHop{Domain: domain, Port: hops[i].port, SmartHost: hops[i].smartHost}
		all[i] = m.unpackFact(&hops[i], hop)
	}
	return all
}

// unpackHop returns the fact of one next-hop, if there is one.
func (m *memory) unpackHop(hops []keptHop, hop policy.NextHop) (hopFact, bool) {
	for i := range hops {
		if hops[i].port == hop.Port && hops[i].smartHost == hop.SmartHost {
			return m.unpackFact(&hops[i], hop), true
		}
	}
	return hopFact{}, false
}

func (m *memory) unpackFact(k *keptHop, hop policy.NextHop) hopFact {
	f := hopFact{hop: hop, renew: m.time(k.renew)}
	f.dane.MX, f.dane.Learned, f.dane.Expires = k.mx, m.time(k.learned), m.time(k.expires)
	if k.more != nil {
		f.dane.Hosts, f.dane.Detail = k.more.hosts, k.more.detail
	}
	return f
}

// What things take in memory, in bytes, about, without their texts; the place
// in a list and the name of the domain are part of keptBytes.
const (
	keptBytes = 210
	// entryBytes is for a fact that is not packed.
	entryBytes   = 600
	moreBytes    = 160
	rareBytes    = 160
	policyBytes  = 64
	hopBytes     = 80
	hostBytes    = 50
	patternBytes = 32
)

// size is how many bytes k takes, about, and not much less.
func (k *kept) size() int64 {
	n := keptBytes + len(k.detail)
	if k.more != nil {
		n += moreBytes + policySize(k.more.policy)
		for i := range k.more.hops {
			n += k.more.hops[i].size()
		}
		if r := k.more.rare; r != nil {
			n += rareBytes + len(r.failure.Reason)
		}
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
