package cache

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

const (
	// useInterval is how often the last use of a domain is written.
	useInterval = 24 * time.Hour
	// maxUnwritten is the number of records that wait to be written, and
	// maxUnwrittenBytes about how many bytes they take.
	maxUnwritten      = 10_000
	maxUnwrittenBytes = maxUnwritten * bytesPerPolicy
	// maxWrites is how many of them are written at a time.
	maxWrites = 32
	// retryWrites is the time between two attempts while the store fails.
	retryWrites = 10 * time.Second
	// lostFor is how long a record that cannot be read defers mail while the
	// network gives no policy.
	lostFor = time.Minute
)

// unwritten is what the store does not have yet. With fact nil it is only the
// last use, or a correction that follows from the record itself.
type unwritten struct {
	fact *policy.STS
	use  *use
}

// size is how many bytes the fact takes, about.
func (u unwritten) size() int {
	if u.fact == nil {
		return 0
	}
	return entryBytes + policySize(u.fact.Policy)
}

// recall returns what is known of the domain of a flight without asking the
// network: from memory, from what the store would not take, from the store.
func (c *Cache) recall(f *flight) policy.STS {
	c.mu.Lock()
	e := c.memory.peek(f.domain)
	u := c.unwritten[f.domain]
	c.mu.Unlock()
	if u.use != nil {
		atLeast(&f.use.last, u.use.last.Load())
	}
	var prev policy.STS
	switch {
	case e.saysAll(f.goal):
		return e.sts
	case u.fact != nil:
		atLeast(&f.use.saved, u.use.saved.Load())
		f.use.fetched.Store(u.use.fetched.Load())
		c.markSource(f, OutcomeStore)
		return *u.fact
	case e != nil && e.known:
		prev = e.sts
	}
	return c.load(f, prev)
}

// saysAll reports whether the store has nothing to add to e, which may be nil, for
// a flight: that a domain is due for a refresh says that it has a policy there.
func (e *entry) saysAll(g goal) bool {
	if e == nil || !e.known || e.sts.Lost {
		return false
	}
	return e.sts.Policy != nil || e.damaged.IsZero() && g != goalRefresh
}

// load asks the store. An error of the store is never "no policy".
// prev is what is known beside it.
func (c *Cache) load(f *flight, prev policy.STS) policy.STS {
	ctx, cancel := context.WithTimeout(f.ctx, storeTimeout)
	defer cancel()
	r, err := c.loadRecord(ctx, f.domain)
	now := time.Now()
	if err == nil {
		var sts policy.STS
		if sts, err = c.restore(now, &r); err == nil {
			c.loaded(f, &r, &sts)
			return sts
		}
	}
	if errors.Is(err, ErrNotFound) {
		f.damaged, prev.Lost = time.Time{}, false
		return prev
	}
	if f.ctx.Err() == nil {
		c.storeFailed(opLoad, "a record could not be read; mail is deferred where the network gives no policy either", f.domain, err)
	}
	f.unread, prev.Lost = err, f.isLost(now)
	return prev
}

// errStoreBusy: the store is not done with so many others.
var errStoreBusy = errors.New("too many records are being read")

// loadRecord asks the store when there is a place for that.
func (c *Cache) loadRecord(ctx context.Context, domain policy.Domain) (Record, error) {
	if until, _ := ctx.Deadline(); !c.loads.acquire(ctx, until) {
		return Record{}, errStoreBusy
	}
	defer c.loads.release()
	return c.store.Load(ctx, domain)
}

// isLost reports whether mail has to wait for what the store may have known.
// With a record that cannot be read for good it would wait for ever: a broken
// disk must not stop the mail of every domain that is not in memory. So it
// waits for a minute, and then the network's word counts; see lostFor.
func (f *flight) isLost(now time.Time) bool {
	if f.damaged.IsZero() {
		f.damaged = now
	}
	return now.Sub(f.damaged) < lostFor
}

// loaded notes what a record says of the use of the domain, and sees to it
// that a time which had to be corrected is corrected in the store too.
func (c *Cache) loaded(f *flight, r *Record, sts *policy.STS) {
	used := r.LastUse
	if used.IsZero() {
		used = r.Fetched
	}
	f.damaged = time.Time{}
	f.use.saved.Store(used.Unix())
	atLeast(&f.use.last, used.Unix())
	f.use.fetched.Store(0)
	if r.Fetched.After(sts.Fetched.Round(0)) {
		f.use.fetched.Store(r.Fetched.Unix())
	}
	c.markSource(f, OutcomeStore)
	if !sts.Refresh.Equal(r.Refresh) {
		c.mark(f.domain, unwritten{use: f.use})
	}
}

// markSource notes where what a flight knows comes from.
func (c *Cache) markSource(f *flight, source string) {
	c.mu.Lock()
	f.source = source
	c.mu.Unlock()
}

// atLeast moves a time forward. Two who do so at once may lose the later one,
// by as little as lies between them.
func atLeast(t *seconds, s int64) {
	if t.Load() < s {
		t.Store(s)
	}
}

// noteUse remembers that a domain with a policy in force was asked for at now.
// Once in a useInterval it has that written, and at once if the domain has to
// be woken.
func (c *Cache) noteUse(now time.Time, domain policy.Domain, sts *policy.STS, u *use) {
	s := now.Unix()
	if passed(s, &u.last, c.useStep) {
		u.last.Store(s)
	}
	stale := passed(s, &u.saved, min(useInterval, c.idle)) || c.asleep(now, sts)
	if stale && passed(s, &u.marked, retryWrites) {
		u.marked.Store(s)
		c.mark(domain, unwritten{use: u})
	}
}

// passed reports whether more than d lies between t and s. A t that is far ahead
// is from before the clock was set back.
func passed(s int64, t *seconds, d time.Duration) bool {
	n := since(s, t)
	return n > d || n < -maxAhead
}

func since(s int64, t *seconds) time.Duration {
	return time.Duration(s-t.Load()) * time.Second
}

// mark has the record of a domain written in the background.
func (c *Cache) mark(domain policy.Domain, u unwritten) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.fact == nil && c.unwritten[domain].fact != nil {
		return
	}
	c.dropUnwritten(domain) // it is outdated, with or without room for u
	if len(c.unwritten) >= maxUnwritten || c.unwrittenBytes+u.size() > maxUnwrittenBytes {
		return
	}
	c.unwritten[domain] = u
	c.unwrittenBytes += u.size()
}

// dropUnwritten forgets that the record of a domain is to be written. c.mu is
// held.
func (c *Cache) dropUnwritten(domain policy.Domain) {
	c.unwrittenBytes -= c.unwritten[domain].size()
	delete(c.unwritten, domain)
}

// write makes a fact durable and reports whether that worked. If it did not,
// it is tried again later.
func (c *Cache) write(f *flight, sts *policy.STS) bool {
	last := f.use.last.Load()
	if last == 0 {
		last = time.Now().Unix()
	}
	ctx, cancel := context.WithTimeout(f.ctx, storeTimeout)
	defer cancel()
	r := recordOf(f.domain, sts, time.Unix(last, 0))
	c.keepFetched(time.Now(), &r, f.use)
	err := c.store.Save(ctx, r)
	if err == nil {
		f.damaged = time.Time{}
		f.use.saved.Store(last)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dropUnwritten(f.domain)
		c.writeAfter = time.Time{}
		return true
	}
	if f.ctx.Err() != nil {
		return false
	}
	c.storeFailed(opSave, "a policy could not be stored; it is applied, and stored later", f.domain, err)
	if sts.Policy != nil {
		fact := *sts
		fact.Wanted = ""
		c.mark(f.domain, unwritten{fact: &fact, use: f.use})
	}
	c.mu.Lock()
	c.writeAfter = time.Now().Add(retryWrites)
	c.mu.Unlock()
	return false
}

// bringUpToDate is the flight that writes what is unwritten of a domain. A
// domain that was asked for after it had been idle is refreshed again.
func (c *Cache) bringUpToDate(f *flight) {
	sts := c.recall(f)
	if f.ctx.Err() != nil {
		return
	}
	c.show(f, &sts)
	now := time.Now()
	// A record that cannot be read may hold a policy: only another policy takes
	// its place.
	if sts.Lost || sts.Policy == nil && (!f.damaged.IsZero() || sts.Failure.At.IsZero()) {
		c.mu.Lock()
		c.dropUnwritten(f.domain)
		c.mu.Unlock()
		return
	}
	if sts.InForce(now) && c.asleep(now, &sts) && c.inUse(now, f.use) {
		sts.Refresh = now
	}
	c.write(f, &sts)
	if f.ctx.Err() == nil {
		c.learn(f, &sts)
	}
}

// asleep reports whether a policy in force at now is not refreshed because its
// domain was idle, or because a clock that was wrong made it look so. There are
// others without a time for their refresh: those that live too short, and those
// whose refresh failed and that are about to end.
func (c *Cache) asleep(now time.Time, sts *policy.STS) bool {
	if !sts.Refresh.IsZero() || sts.Policy.MaxAge <= c.shortLife {
		return false
	}
	left := sts.Policy.MaxAge - policy.Age(now, sts.Fetched)
	return sts.Failure.At.IsZero() || left > c.shortLife
}

// storeFailed counts an error of the store, and logs it now and then.
func (c *Cache) storeFailed(op, message string, domain policy.Domain, err error) {
	c.metrics.StoreFailed(TierLocal, op)
	c.mu.Lock()
	c.trouble = StoreTrouble{At: time.Now(), Op: op, Err: err}
	c.mu.Unlock()
	if c.limiter.allow(time.Now(), "store "+op) {
		c.log.Error(message, zap.Stringer("domain", domain), zap.Error(err))
	}
}
