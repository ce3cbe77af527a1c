package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tlspolicyd/resolver/policy"
)

// Where the fact in a View comes from.
const (
	// SourceMemory: it answers questions.
	SourceMemory = "memory"
	// SourceUnwritten: the store would not take it yet.
	SourceUnwritten = "unwritten"
	// SourceStore: it answers the next question.
	SourceStore = "store"
)

// View is all that is known of a domain at a moment.
type View struct {
	Domain policy.Domain
	Now    time.Time

	// Source says where STS comes from; empty means that nothing is known,
	// and STS is zero.
	Source string
	STS    policy.STS
	// Damaged is when the store was first seen not to know what it held of
	// the domain; zero if it does.
	Damaged time.Time
	// LastUse is when somebody last asked for the domain: to the hour while
	// it is in memory, else to the day; zero if it is not known.
	LastUse time.Time
	// Look is from when on a question has the TXT record looked at; zero means
	// that the next one does.
	Look time.Time
	// Hops are the DANE facts in memory.
	Hops []HopView

	// Record is what the store holds; nil if that is nothing, or cannot be
	// read: then StoreErr says why.
	Record   *Record
	StoreErr error

	// Shared is what the shared store holds, likewise; it may be of anybody,
	// and answers nothing by itself.
	Shared    *Record
	SharedErr error

	// Unwritten says that the store does not have all of it yet, Expiring
	// that the policy is past half of its life and its refresh fails. Until
	// Held the policy is not refreshed; zero if nothing holds it.
	Unwritten bool
	Expiring  bool
	Held      time.Time

	// UnderWay is what is being done, and Next what comes after, in the order
	// of time.
	UnderWay []Step
	Next     []Step
}

// HopView is the DANE fact of a next-hop. From Renew on a question has it
// looked up again.
type HopView struct {
	Hop   policy.NextHop
	DANE  policy.DANE
	Renew time.Time
}

// Step is something that began or is due at a time, in words.
type Step struct {
	At   time.Time
	What string
}

// Known reports whether there is anything to tell of the domain.
func (v *View) Known() bool {
	return v.Source != "" || v.Record != nil || v.StoreErr != nil || len(v.Hops) > 0 || len(v.UnderWay) > 0
}

// Inspect returns all that is known of a domain. It asks nobody but the stores,
// and changes nothing: it is no use of the domain. An error of a store is part
// of the view.
func (c *Cache) Inspect(ctx context.Context, domain policy.Domain) View {
	v := View{Domain: domain}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := c.store.Load(ctx, domain)
	switch {
	case err == nil:
		v.Record = &r
	case !errors.Is(err, ErrNotFound):
		v.StoreErr = fmt.Errorf("the record could not be read: %w", err)
	}
	c.viewShared(ctx, &v)
	// Memory is looked at after the store: what is in neither was in neither.
	v.Now = time.Now()
	c.viewMemory(&v)
	if v.Source == "" && v.Record != nil {
		c.viewRecord(&v)
	}
	c.plan(&v)
	return v
}

// viewShared puts what the shared store holds into a view.
func (c *Cache) viewShared(ctx context.Context, v *View) {
	if c.shared == nil {
		return
	}
	r, err := c.shared.Load(ctx, v.Domain)
	switch {
	case err == nil:
		v.Shared = &r
	case !errors.Is(err, ErrNotFound):
		v.SharedErr = fmt.Errorf("the record could not be read: %w", err)
	}
}

// viewMemory puts what there is outside of the store into a view.
func (c *Cache) viewMemory(v *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u, unwritten := c.unwritten[v.Domain]
	_, v.Expiring = c.expiring[v.Domain]
	v.Unwritten, v.Held = unwritten, c.held[v.Domain]
	v.UnderWay = c.underWay(v.Domain)
	e := c.memory.peek(v.Domain)
	if e != nil {
		for i := range e.hops {
			h := &e.hops[i]
			v.Hops = append(v.Hops, HopView{Hop: h.hop, DANE: h.dane, Renew: h.renew})
		}
	}
	switch {
	case e != nil && e.known:
		v.Source, v.STS, v.Damaged = SourceMemory, e.sts, e.damaged
		v.Look, v.LastUse = e.renew, lastUse(e.use)
	case u.fact != nil:
		v.Source, v.STS, v.LastUse = SourceUnwritten, *u.fact, lastUse(u.use)
	}
}

// viewRecord puts the fact that follows from the record into a view.
func (c *Cache) viewRecord(v *View) {
	sts, err := c.restore(v.Now, v.Record)
	if err != nil {
		v.StoreErr = err
		return
	}
	v.Source, v.STS, v.LastUse = SourceStore, sts, v.Record.LastUse
}

// lastUse returns the time of the last use; zero if it is not known.
func lastUse(u *use) time.Time { return fromUnix(u.last.Load()) }

// underWay returns the flights of a domain, the oldest first. c.mu is held.
func (c *Cache) underWay(domain policy.Domain) []Step {
	var steps []Step
	for f := c.flights[domain]; f != nil; f = f.after {
		steps = append(steps, Step{f.started, f.goal.words()})
	}
	for hop, f := range c.lookingUp {
		if hop.Domain == domain {
			steps = append(steps, Step{f.started, fmt.Sprintf("the MX hosts of %s are being looked up", hop)})
		}
	}
	slices.SortStableFunc(steps, byTime)
	return steps
}

func byTime(a, b Step) int {
	if c := a.At.Compare(b.At); c != 0 {
		return c
	}
	return cmp.Compare(a.What, b.What)
}

// words says what a flight does.
func (g goal) words() string {
	switch g {
	case goalRefresh:
		return "the policy is being fetched again"
	case goalWrite:
		return "the record is being written to the store"
	case goalRenew:
		return "the domain is being refreshed on command"
	case goalHeed:
		return "what another relay has to tell of the domain is being looked at"
	case goalForget:
		return "the domain is being purged on command"
	default:
		return "the domain is being looked up"
	}
}

// StoreTrouble is the last error of the store; the zero value is none.
type StoreTrouble struct {
	At time.Time
	// Op is what failed, as in Metrics.StoreFailed.
	Op  string
	Err error
}

// StoreTrouble returns the last error of the store since the cache was made.
func (c *Cache) StoreTrouble() StoreTrouble {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trouble
}
