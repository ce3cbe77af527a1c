package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"tlspolicyd/resolver/policy"
)

const (
	// tick is how often the store is asked for what is due.
	tick = time.Second
	// pace is the time between the starts of two refreshes or writes.
	pace = time.Second / 50
	// overdueSeen is how many overdue refreshes are counted, above those that
	// are started.
	overdueSeen = 1000
	// maxHeld is the number of domains that may be held back from refresh. At
	// the limit no refresh is started, since what the store shows as due
	// would be the same domains again and again.
	maxHeld = 100_000
	// holdDamaged is how long a record that cannot be read is held back.
	holdDamaged = time.Hour
)

// Run refreshes policies before they end, writes what the store does not have
// yet, and shares what is fetched, until ctx ends; it returns the error of ctx. The flights that it
// began are awaited by Close.
func (c *Cache) Run(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	defer c.joinFleet(ctx)()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			c.unwatchEnded(time.Now())
			c.forgetVerified(time.Now())
			c.startWrites(ctx)
			c.startRefreshes(ctx)
		}
	}
}

// joinFleet has what the relays of a fleet tell each other told and heard until
// ctx ends; the function that it returns waits for that end.
func (c *Cache) joinFleet(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	if c.shared != nil {
		wg.Go(func() { c.share(ctx) })
		wg.Go(func() { c.hear(ctx) })
	}
	return wg.Wait
}

// startRefreshes begins as many refreshes as there is room for.
//
// RFC 8461, section 10.2: policies are refreshed long before they end, so that
// an attacker has to block the network for long.
func (c *Cache) startRefreshes(ctx context.Context) {
	now := time.Now()
	held := c.dropHolds(now)
	if held >= maxHeld {
		return
	}
	// What is held or under way is still due for the store.
	busy := held + cap(c.refreshes) + cap(c.writes)
	due, err := c.due(ctx, now, c.refreshes.free()+busy+overdueSeen)
	if err != nil {
		if ctx.Err() == nil {
			c.storeFailed(opDue, "the store could not be asked which policies are due for refresh", policy.Domain{}, err)
		}
		return
	}
	due = append(c.dueUnwritten(now), due...)
	for _, domain := range due {
		if c.refreshes.free() == 0 || c.start(domain, goalRefresh, c.refreshes) && !pause(ctx, pace) {
			break
		}
	}
	c.countOverdue(due)
}

// dueUnwritten returns what is due of what the store would not take.
func (c *Cache) dueUnwritten(now time.Time) []policy.Domain {
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []policy.Domain
	for domain, u := range c.unwritten {
		if u.fact != nil && !u.fact.Refresh.IsZero() && !u.fact.Refresh.After(now) {
			due = append(due, domain)
		}
	}
	return due
}

// countOverdue counts the domains that are due and still wait.
func (c *Cache) countOverdue(due []policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.overdue = 0
	for _, domain := range due {
		if _, held := c.held[domain]; !held && c.flights[domain] == nil {
			c.overdue++
		}
	}
}

// dropHolds forgets the holds that are over and returns how many are left.
func (c *Cache) dropHolds(now time.Time) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, until := range c.held {
		if !now.Before(until) {
			delete(c.held, domain)
		}
	}
	return len(c.held)
}

func (c *Cache) due(ctx context.Context, now time.Time, n int) ([]policy.Domain, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return c.store.Due(ctx, now, n)
}

// start begins a flight for a goal if there is a place for it, the domain has
// none, and it is not held back from refresh.
func (c *Cache) start(domain policy.Domain, g goal, pool slots) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, held := c.held[domain]
	if c.closed || c.flights[domain] != nil || held && g == goalRefresh || !pool.tryAcquire() {
		return false
	}
	c.launch(domain, g, time.Now())
	return true
}

// startWrites writes some of what is unwritten; a single one, as a trial, when
// the store has failed before.
func (c *Cache) startWrites(ctx context.Context) {
	for _, domain := range c.someUnwritten(time.Now()) {
		if c.start(domain, goalWrite, c.writes) && !pause(ctx, pace) {
			return
		}
	}
}

func (c *Cache) someUnwritten(now time.Time) []policy.Domain {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.writes.free()
	switch {
	case now.Before(c.writeAfter):
		return nil
	case !c.writeAfter.IsZero():
		n = min(n, 1)
	}
	var domains []policy.Domain
	for domain := range c.unwritten {
		if len(domains) >= n {
			break
		}
		domains = append(domains, domain)
	}
	return domains
}

// refresh is the flight that fetches a policy again.
func (c *Cache) refresh(f *flight) {
	sts := c.recall(f)
	if f.ctx.Err() != nil {
		return
	}
	// Who asks meanwhile does not wait for the network.
	c.show(f, &sts)
	now := time.Now()
	switch {
	case f.unread != nil && !errors.Is(f.unread, ErrDamaged):
		c.hold(f.domain, now.Add(retryWrites))
	case sts.Policy == nil || sts.Lost:
		c.hold(f.domain, now.Add(holdDamaged))
	case c.isDue(now, &sts, f.use):
		c.metrics.Refreshed(c.fetchAgain(f, &sts))
		return
	default:
		if hasCome(now, sts.Refresh) {
			// Expired, or idle: nobody is served by another fetch.
			sts.Refresh = time.Time{}
		}
		c.unsetDue(f, &sts)
	}
	c.metrics.Refreshed(RefreshSkipped)
}

// isDue reports whether a policy that the store shows as due is to be fetched.
func (c *Cache) isDue(now time.Time, sts *policy.STS, u *use) bool {
	return sts.InForce(now) && !sts.Refresh.IsZero() && hasCome(now, sts.Refresh) && c.inUse(now, u)
}

// hasCome reports whether a time to refresh has come, by either clock: the
// store knows the wall clock only, which goes on while the machine sleeps, and
// would show as due again and again what is not refreshed.
func hasCome(now, at time.Time) bool {
	return !at.After(now) || !at.Round(0).After(now.Round(0))
}

// inUse reports whether a domain was asked for within the last Options.Idle.
func (c *Cache) inUse(now time.Time, u *use) bool {
	return since(now.Unix(), &u.last) <= c.idle
}

// unsetDue tells the store that a record is not due.
func (c *Cache) unsetDue(f *flight, sts *policy.STS) {
	if !c.write(f, sts) {
		c.hold(f.domain, later(sts.Refresh, time.Now().Add(retryWrites)))
	}
	if f.ctx.Err() == nil {
		c.learn(f, sts)
	}
	c.mu.Lock()
	delete(c.expiring, f.domain)
	c.mu.Unlock()
}

// fetchAgain fetches the policy, whatever the TXT record says by now, unless
// another relay has just done so, and returns how that ended.
//
// RFC 8461, section 10.2: "regardless of the state of the TXT record".
func (c *Cache) fetchAgain(f *flight, sts *policy.STS) string {
	if c.skipFetch(f, sts) {
		return RefreshShared
	}
	sts.Wanted = ""
	next := c.resolver.Fetch(f.ctx, f.domain, *sts)
	if !c.fetched(f, sts, &next) && f.ctx.Err() == nil {
		c.hold(f.domain, later(next.Refresh, time.Now().Add(retryWrites)))
	}
	switch {
	case f.ctx.Err() != nil || putOff(sts, &next):
		return RefreshSkipped
	case next.Failure.At.IsZero():
		return RefreshOK
	default:
		return RefreshFailed
	}
}

// hold keeps a domain from being refreshed until a time, whatever the store
// says.
func (c *Cache) hold(domain policy.Domain, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[domain] = until
}

// pause waits for a time, and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
