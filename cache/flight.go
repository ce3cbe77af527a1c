package cache

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// goal is what a flight is for.
type goal uint8

const (
	// goalAsk: look at the TXT record, and fetch what is wanted then.
	goalAsk goal = iota
	// goalRefresh: fetch the policy again.
	goalRefresh
	// goalWrite: bring the record in the store up to date.
	goalWrite
	// goalRenew: look and fetch for an operator, see [Cache.Refresh].
	goalRenew
	// goalHeed: see what another relay has to tell, see [Cache.hear].
	goalHeed
	// goalForget: forget the domain for an operator, see [Cache.Purge].
	goalForget
)

// flight is work on the STS fact of a domain. There is one at a time for a
// domain, whatever it is for, so that facts and records have one writer.
type flight struct {
	domain  policy.Domain
	goal    goal
	started time.Time
	use     *use
	// damaged is as in entry; only the goroutine of the flight uses it.
	damaged time.Time
	// unread is why the store could not be read; likewise.
	unread error
	// ctx ends with Close, and with cancel when the domain is forgotten.
	ctx    context.Context
	cancel context.CancelFunc
	// after is the flight that has to land before this one begins; nil if
	// there is none, or once this one has landed.
	after *flight
	// done is closed when the flight has landed and is followed by another.
	done chan struct{}
	// refreshed says that a refresh did not end in a panic.
	refreshed bool
	// outcome is what an operator is told; it is set before done is closed.
	outcome outcome

	// sts is what is known so far. Lost is set in it until the store was
	// asked.
	sts policy.STS
	// source is OutcomeStore if sts is what the store held, OutcomeShared if it
	// is what another relay had shared, and else empty.
	source string
	// heard says that a flight of goalHeed has asked the shared store.
	heard bool
	// hinted says that another relay knows another policy, which is to be
	// fetched even if no TXT record wants it.
	hinted bool
	// deadline is until when questions wait; zero until one does.
	deadline time.Time
	// changed is closed, and replaced, when sts changes, and closed at the
	// end, when landed is set.
	changed chan struct{}
	landed  bool
	// forgotten says that what the flight found out was not remembered: the
	// domain was forgotten meanwhile.
	forgotten bool
}

// joinSTS returns the flight of the domain that q asks for, begun if there is
// none. c.mu is held.
func (c *Cache) joinSTS(q *question, now time.Time) *flight {
	f := c.flights[q.hop.Domain]
	if f == nil {
		f = c.launch(q.hop.Domain, goalAsk, now)
		q.outcome = OutcomeResolved
	}
	if f.deadline.IsZero() {
		f.deadline = now.Add(c.answerWithin)
	}
	f.use.last.Store(now.Unix())
	return f
}

// renewSTS begins a look at a domain whose fact is still good. It does without
// when there is a flight already, or has just been one, or a crowd of them.
func (c *Cache) renewSTS(domain policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e := c.memory.peek(domain)
	if e != nil && !now.Before(e.renew) && c.flights[domain] == nil && c.mayRenew(now, e) {
		c.launch(domain, goalAsk, now)
	}
}

// mayRenew reports whether there is room for a lookup that nobody waits for.
// One of a policy in force takes any place, or its changes went unseen; others
// leave half of the places to those who wait. c.mu is held.
func (c *Cache) mayRenew(now time.Time, e *entry) bool {
	spare := cap(c.lookups) / 2
	if e.sts.InForce(now) {
		spare = 0
	}
	return !c.closed && c.lookups.free() > spare
}

// launch begins a flight. If the domain has one, the new one takes its place
// and begins when that has landed. After Close it returns one that has landed.
// c.mu is held.
func (c *Cache) launch(domain policy.Domain, g goal, now time.Time) *flight {
	f := &flight{domain: domain, goal: g, started: now, use: &use{}, changed: make(chan struct{}), done: make(chan struct{})}
	f.after = c.flights[domain]
	c.takeKnown(f)
	if c.closed {
		f.landed, f.after = true, nil
		close(f.changed)
		close(f.done)
		return f
	}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	c.flights[domain] = f
	c.running++
	go c.fly(f, f.after)
	return f
}

// takeKnown gives a flight what memory holds of its domain, or else what the
// flight before it has found out so far; if that is nothing, the store has to
// be asked. c.mu is held.
func (c *Cache) takeKnown(f *flight) {
	f.sts = policy.STS{Lost: true}
	e := c.memory.peek(f.domain)
	if e == nil || !e.known {
		if before := f.after; before != nil && before.goal != goalForget && !before.forgotten {
			f.sts = before.sts
			f.sts.Wanted = ""
		}
		return
	}
	atLeast(&e.use.last, f.use.last.Load())
	f.sts, f.use, f.damaged = e.sts, e.use, e.damaged
}

// follow waits until the flight before f has landed, and has f begin with what
// that has learned.
func (c *Cache) follow(f, before *flight) {
	<-before.done
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeKnown(f)
	c.showLocked(f, &f.sts)
}

// fly does the work of a flight once the one before it, if any, has landed.
func (c *Cache) fly(f, before *flight) {
	defer c.landSTS(f)
	defer c.survive(f.domain)
	if before != nil {
		c.follow(f, before)
	}
	switch f.goal {
	case goalRefresh:
		defer c.refreshes.release()
		c.refresh(f)
		f.refreshed = true
	case goalWrite:
		defer c.writes.release()
		c.bringUpToDate(f)
	case goalRenew:
		c.renew(f)
	case goalHeed:
		c.followNews(f)
	case goalForget:
		c.forget(f)
	default:
		c.discover(f)
	}
}

func (c *Cache) landSTS(f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.landed, f.after = true, nil
	f.cancel()
	close(f.changed)
	close(f.done)
	if c.flights[f.domain] == f {
		delete(c.flights, f.domain)
	}
	if f.goal == goalRefresh && !f.refreshed {
		// It is still due.
		c.held[f.domain] = time.Now().Add(holdDamaged)
	}
	c.land()
}

// land counts a flight that has ended. c.mu is held.
func (c *Cache) land() {
	c.running--
	if c.closed && c.running == 0 {
		close(c.landed)
	}
}

// survive keeps what one domain publishes from ending the daemon for all,
// should it ever make the code below panic. The flight has learned nothing.
func (c *Cache) survive(domain policy.Domain) {
	if r := recover(); r != nil {
		c.log.Error("a lookup ended in a panic, which is a bug; the domain counts as one that could not be looked up",
			zap.Stringer("domain", domain), zap.Any("panic", r), zap.StackSkip("stack", 1))
	}
}

// discover finds the fact of a domain out: stores, TXT record, policy. If there
// is no place to do so in time, nothing is learned, and nothing remembered.
func (c *Cache) discover(f *flight) {
	next, ok := c.look(f)
	switch {
	case !ok:
	case next.Wanted == "" && !f.hinted:
		c.learn(f, &next)
		c.tellFailedLook(f.domain, &next)
	default:
		c.show(f, &next)
		c.fetch(f, &next)
	}
}

// look takes what is known and looks at the TXT record. It reports whether
// that was done.
func (c *Cache) look(f *flight) (next policy.STS, ok bool) {
	// However many lookups there are, what the store holds is asked for first:
	// it answers without them.
	prev := c.recall(f)
	if f.ctx.Err() != nil {
		return policy.STS{}, false
	}
	if now := time.Now(); f.source == OutcomeStore && prev.InForce(now) {
		c.learn(f, &prev)
		c.noteUse(now, f.domain, &prev, f.use)
	} else {
		c.show(f, &prev)
	}
	prev, f.hinted = c.takeOver(f, prev)
	return c.lookNow(f, prev)
}

// lookNow asks for the TXT record when there is a place for that.
func (c *Cache) lookNow(f *flight, prev policy.STS) (next policy.STS, ok bool) {
	if !c.lookups.acquire(f.ctx, f.started.Add(c.answerWithin)) {
		return policy.STS{}, false
	}
	defer c.lookups.release()
	next = c.resolver.Look(f.ctx, f.domain, prev)
	return next, f.ctx.Err() == nil
}

// fetch fetches the policy that a look wanted.
func (c *Cache) fetch(f *flight, prev *policy.STS) {
	if !c.fetches.acquire(f.ctx, f.started.Add(c.answerWithin)) {
		return
	}
	next := func() policy.STS {
		defer c.fetches.release()
		return c.resolver.Fetch(f.ctx, f.domain, *prev)
	}()
	switch {
	case !putOff(prev, &next):
		c.fetched(f, prev, &next)
		if f.hinted {
			c.noteVerified(f.domain, prev, &next)
		}
	case f.ctx.Err() == nil && next.InForce(time.Now()):
		c.learn(f, &next)
	}
}

// putOff reports whether a fetch neither brought a policy nor failed: there was
// no place for it. Of a domain without a policy in force nothing is remembered
// then, so that the next question tries again.
func putOff(prev, next *policy.STS) bool {
	return next.Policy == prev.Policy && next.Failure == prev.Failure
}

// fetched commits what a fetch brought and has it saved in the shared store. It
// reports whether the store took it.
func (c *Cache) fetched(f *flight, prev, next *policy.STS) bool {
	written := c.commit(f, prev, next)
	if c.shared != nil && f.ctx.Err() == nil && next.Policy != nil && next.Policy != prev.Policy {
		c.outbox.add(f.domain, errandSave)
	}
	return written
}

// commit makes what a fetch brought, here or elsewhere, durable, then known. A
// flight that was cut short by Close brought nothing. It reports whether the store
// took it.
func (c *Cache) commit(f *flight, prev, next *policy.STS) bool {
	if f.ctx.Err() != nil {
		return false
	}
	if next.Policy != nil && next.Policy != prev.Policy {
		f.use.fetched.Store(0)
	}
	// A record that cannot be read may hold a policy; a failure must not
	// take its place.
	unreadable := next.Lost || !f.damaged.IsZero() && next.Policy == nil
	shown := c.showUnlessWritten(f, next)
	written := unreadable || c.write(f, next)
	shown.Stop()
	if f.ctx.Err() != nil {
		return false
	}
	c.learn(f, next)
	c.tellChange(f.domain, prev, next)
	return written
}

// show lets those who wait for the flight see sts.
func (c *Cache) show(f *flight, sts *policy.STS) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showLocked(f, sts)
}

func (c *Cache) showLocked(f *flight, sts *policy.STS) {
	f.sts = *sts
	close(f.changed)
	f.changed = make(chan struct{})
}

// showUnlessWritten lets those who wait see sts if the store has not taken it in
// its time: a disk that hangs says neither yes nor no, perhaps for hours.
func (c *Cache) showUnlessWritten(f *flight, sts *policy.STS) *time.Timer {
	settled := *sts
	settled.Wanted = ""
	return time.AfterFunc(storeTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !f.landed && f.ctx.Err() == nil {
			c.showLocked(f, &settled)
		}
	})
}

// learn keeps sts in memory and shows it. A domain that nobody asks for gets
// no place in memory, but keeps the one that it has.
func (c *Cache) learn(f *flight, sts *policy.STS) {
	now := time.Now()
	settled := *sts
	settled.Wanted = ""
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.memory.peek(f.domain)
	if f.goal == goalAsk || f.goal == goalRenew || !f.deadline.IsZero() || old != nil && old.known {
		e := old.withSTS(now, &settled, f.use)
		e.damaged = f.damaged
		if !e.damaged.IsZero() {
			e.askStoreAt(now.Add(lostFor))
		}
		c.memory.put(now, f.domain, e)
	}
	c.showLocked(f, &settled)
}

// tellFailedLook says that a domain is taken for one without a policy because
// its TXT record cannot be looked up.
func (c *Cache) tellFailedLook(domain policy.Domain, sts *policy.STS) {
	now := time.Now()
	if sts.Record == policy.RecordFailed && !sts.InForce(now) && c.limiter.allow(now, "look") {
		c.log.Info("a TXT record could not be looked up; the domain is taken for one without MTA-STS for now",
			zap.Stringer("domain", domain), zap.String("reason", sts.Detail))
	}
}
