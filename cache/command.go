package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// Why a command of an operator came to no end.
var (
	// ErrClosed: the cache was closed.
	ErrClosed = errors.New("the daemon is being stopped")
	// ErrCutShort: another command took over, or the cache was closed.
	ErrCutShort = errors.New("cut short by a purge of the domain, or the end of the daemon")
	// ErrBusy: there was no place for another lookup in time.
	ErrBusy = errors.New("too many lookups are in progress; try again")
	// ErrStillShared: a purge did its work here, but the shared store did not
	// do its part.
	ErrStillShared = errors.New("purged here, but not from the shared store, from which it may come back")
)

// Renewal says how a refresh by an operator ended.
type Renewal uint8

// The ends of a refresh. The zero value is the one that must not be mistaken
// for "no".
const (
	// RenewalUnknown: it is not known whether there is a policy; the DNS gave
	// no answer.
	RenewalUnknown Renewal = iota
	// RenewalFetched: the policy was fetched.
	RenewalFetched
	// RenewalFailed: the policy could not be fetched. What was in force stays
	// so; see policy.STS.Failure.
	RenewalFailed
	// RenewalAbsent: the domain publishes no policy.
	RenewalAbsent
	// RenewalTooSoon: the last fetch was less than Options.Recheck ago.
	RenewalTooSoon
)

// String returns the end as a word.
func (r Renewal) String() string {
	switch r {
	case RenewalFetched:
		return "fetched"
	case RenewalFailed:
		return "failed"
	case RenewalAbsent:
		return "absent"
	case RenewalTooSoon:
		return "too soon"
	default:
		return "unknown"
	}
}

// outcome is what an operator is told of the flight of his command.
type outcome struct {
	renewal Renewal
	sts     policy.STS
	// known says that there was something to forget.
	known bool
	// err is why there is nothing to tell; ErrCutShort is what it stands for
	// when finished is not set.
	err      error
	finished bool
}

// Refresh looks at the TXT record of a domain and fetches its policy now, due
// or not, and returns the fact that came of it. DANE facts are looked up again
// too, which is not waited for.
//
// It waits for a flight of the domain that is in progress, and its own goes on
// when ctx ends. An operator may fetch within the five minutes after a failure,
// and however often the id has changed; but not within Options.Recheck of the
// last fetch.
func (c *Cache) Refresh(ctx context.Context, domain policy.Domain) (Renewal, policy.STS, error) {
	out, err := c.command(ctx, domain, goalRenew)
	if err != nil {
		return RenewalUnknown, policy.STS{}, fmt.Errorf("refreshing %s: %w", domain, err)
	}
	return out.renewal, out.sts, nil
}

// Purge forgets a domain: in memory, in the store, and what is being found out
// about it, which does not come back. It reports whether there was anything to
// forget. The next question is that of an unknown domain. If the store fails,
// nothing is forgotten; if the shared store does, all but what is there, and
// known is what was known here.
//
// When ctx ends, the purge goes on.
func (c *Cache) Purge(ctx context.Context, domain policy.Domain) (known bool, err error) {
	known, err = c.purge(ctx, domain)
	if known {
		c.log.Info("a domain was purged on command", zap.Stringer("domain", domain))
	}
	return known, err
}

func (c *Cache) purge(ctx context.Context, domain policy.Domain) (bool, error) {
	out, err := c.command(ctx, domain, goalForget)
	if err != nil {
		return out.known, fmt.Errorf("purging %s: %w", domain, err)
	}
	return out.known, nil
}

// command begins the flight of a command after that of the domain which is in
// progress, and waits for its end.
func (c *Cache) command(ctx context.Context, domain policy.Domain, g goal) (outcome, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return outcome{}, ErrClosed
	}
	if g == goalForget {
		c.cutShort(domain)
	}
	f := c.launch(domain, g, time.Now())
	c.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	if !f.outcome.finished {
		return outcome{}, ErrCutShort
	}
	return f.outcome, f.outcome.err
}

// cutShort ends the flights of a domain. Another purge is left alone: who waits
// for that is to hear of its end. c.mu is held.
func (c *Cache) cutShort(domain policy.Domain) {
	for f := c.flights[domain]; f != nil; f = f.after {
		if f.goal != goalForget {
			f.forgotten = true
			f.cancel()
		}
	}
}

// end says how a command ended.
func (f *flight) end(o outcome) {
	o.finished = true
	f.outcome = o
}

// renew is the flight of [Cache.Refresh].
func (c *Cache) renew(f *flight) {
	next, ok := c.lookAnew(f)
	if !ok {
		return
	}
	now := time.Now()
	if next.Wanted == "" && !next.InForce(now) {
		c.learn(f, &next)
		f.end(outcome{renewal: withoutFetch(&next), sts: next})
		return
	}
	c.show(f, &next)
	if !c.fetches.acquire(f.ctx, now.Add(c.answerWithin)) {
		f.end(outcome{err: ErrBusy})
		return
	}
	fetched := func() policy.STS {
		defer c.fetches.release()
		return c.resolver.Fetch(f.ctx, f.domain, next)
	}()
	if f.ctx.Err() == nil && putOff(&next, &fetched) {
		f.end(outcome{err: ErrBusy})
		return
	}
	c.fetched(f, &next, &fetched)
	if f.ctx.Err() != nil {
		return
	}
	c.lookUpHosts(f.domain)
	end := outcome{renewal: RenewalFetched, sts: fetched}
	if !fetched.Failure.At.IsZero() {
		end.renewal = RenewalFailed
	}
	c.log.Info("a policy was fetched on command", zap.Stringer("domain", f.domain), zap.Stringer("result", end.renewal))
	f.end(end)
}

// lookAnew looks at the TXT record as if nothing had failed before, and reports
// whether the policy may be fetched. If not, the command has ended.
func (c *Cache) lookAnew(f *flight) (next policy.STS, ok bool) {
	if !c.lookups.acquire(f.ctx, time.Now().Add(c.answerWithin)) {
		f.end(outcome{err: ErrBusy})
		return policy.STS{}, false
	}
	defer c.lookups.release()
	prev := c.recall(f)
	if f.ctx.Err() != nil {
		return policy.STS{}, false
	}
	c.show(f, &prev)
	if time.Since(later(prev.Fetched, prev.Failure.At)) < c.recheck {
		f.end(outcome{renewal: RenewalTooSoon, sts: prev})
		return policy.STS{}, false
	}
	// RFC 8461, section 3.3, limits what is tried by itself: it is the
	// operator who tries here.
	asked := prev
	asked.Failure, asked.Churn = policy.Failure{}, policy.Churn{}
	next = c.resolver.Look(f.ctx, f.domain, asked)
	next.Failure, next.Churn = prev.Failure, prev.Churn
	return next, f.ctx.Err() == nil
}

// withoutFetch returns how a refresh ended in which there was nothing to fetch.
func withoutFetch(sts *policy.STS) Renewal {
	switch {
	case sts.Record == policy.RecordAbsent && !sts.Lost:
		return RenewalAbsent
	case sts.Record == policy.RecordFound:
		return RenewalTooSoon
	default:
		return RenewalUnknown
	}
}

// lookUpHosts begins to look up the DANE facts of a domain again.
func (c *Cache) lookUpHosts(domain policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.memory.peek(domain)
	if e == nil {
		return
	}
	now := time.Now()
	for i := range e.hops {
		if hop := e.hops[i].hop; c.lookingUp[hop] == nil && c.mayRenew(now, e) {
			c.launchDANE(hop, now)
		}
	}
}
