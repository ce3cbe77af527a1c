package cache

import (
	"time"

	"tlspolicyd/resolver/policy"
)

// daneFlight is the lookup of the DANE fact of a next-hop.
type daneFlight struct {
	hop     policy.NextHop
	prev    policy.DANE
	started time.Time
	// dane is what was learned; nothing, until done is set and landed closed.
	dane policy.DANE
	// deadline is until when questions wait; zero until one does.
	deadline time.Time
	landed   chan struct{}
	done     bool
	// forgotten says that what is learned answers who waits for it, and is
	// not remembered: the domain was forgotten meanwhile.
	forgotten bool
}

// joinDANE returns the lookup of the next-hop that q asks for, begun if there
// is none. c.mu is held.
func (c *Cache) joinDANE(q *question, now time.Time) *daneFlight {
	f := c.lookingUp[q.hop]
	if f == nil {
		f = c.launchDANE(q.hop, now)
		q.outcome = OutcomeResolved
	}
	if f.deadline.IsZero() {
		f.deadline = now.Add(c.answerWithin)
	}
	return f
}

// renewDANE is renewSTS for a next-hop.
func (c *Cache) renewDANE(hop policy.NextHop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e := c.memory.peek(hop.Domain)
	if e == nil || c.lookingUp[hop] != nil || !c.mayRenew(now, e) {
		return
	}
	if fact := e.hop(hop); fact != nil && !now.Before(fact.renew) {
		c.launchDANE(hop, now)
	}
}

// launchDANE begins a lookup. After Close it returns one that has landed and
// learned nothing. c.mu is held.
func (c *Cache) launchDANE(hop policy.NextHop, now time.Time) *daneFlight {
	f := &daneFlight{hop: hop, started: now, landed: make(chan struct{})}
	if e := c.memory.peek(hop.Domain); e != nil {
		if fact := e.hop(hop); fact != nil {
			f.prev = fact.dane
		}
	}
	if c.closed {
		f.done = true
		close(f.landed)
		return f
	}
	c.lookingUp[hop] = f
	c.running++
	go c.flyDANE(f)
	return f
}

func (c *Cache) flyDANE(f *daneFlight) {
	defer c.landDANE(f)
	defer c.survive(f.hop.Domain)
	if !c.lookups.acquire(c.ctx, f.started.Add(c.answerWithin)) {
		return
	}
	defer c.lookups.release()
	next := c.resolver.DANE(c.ctx, f.hop, f.prev)
	// RFC 7672, section 2.1.2: a lookup that was cut short says nothing.
	if c.ctx.Err() == nil {
		c.mu.Lock()
		f.dane = next
		if !f.forgotten {
			c.keepDANE(f.hop, next)
		}
		c.mu.Unlock()
	}
}

func (c *Cache) landDANE(f *daneFlight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.done = true
	close(f.landed)
	delete(c.lookingUp, f.hop)
	c.land()
}

// keepDANE remembers a fact for as long as it may be used. c.mu is held.
func (c *Cache) keepDANE(hop policy.NextHop, dane policy.DANE) {
	now := time.Now()
	if dane.Fresh(now) {
		old := c.memory.peek(hop.Domain)
		c.memory.put(now, hop.Domain, old.withHop(now, hop, dane))
	}
}
