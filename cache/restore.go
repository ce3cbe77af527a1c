package cache

import (
	"fmt"
	"time"

	"tlspolicyd/resolver/policy"
)

// maxAhead is how far a fetch may lie in the future before its policy is also
// refreshed at once: clocks differ, but not by so much.
const maxAhead = 5 * time.Minute

// trustClock is how long this process has to run before the store is told that
// a fetch was not in the future. Until then, the clock is rather behind than
// the one before was ahead: a machine without a clock of its own learns the
// time from the network, after the start.
const trustClock = 24 * time.Hour

// restore makes the fact from a record, as of now; started is a time on the
// clocks of this process. The error wraps ErrDamaged: a text that is no policy
// (any more) is not "no policy".
func (c *Cache) restore(now time.Time, r *Record) (policy.STS, error) {
	sts := policy.STS{
		Failure: r.Failure,
		Churn:   r.Churn,
	}
	sts.Failure.At = c.anchor(now, r.Failure.At)
	sts.Churn.Since = c.anchor(now, r.Churn.Since)
	if r.Text == "" && r.Fetched.IsZero() {
		return sts, nil
	}
	p, err := c.parse(r.Text)
	if err != nil {
		return policy.STS{}, fmt.Errorf("%w: reading the policy of %s: %w", ErrDamaged, r.Domain, err)
	}
	sts.Policy, sts.ID = p, r.ID
	sts.Fetched = c.anchor(now, r.Fetched)
	if !r.Refresh.IsZero() {
		sts.Refresh = sooner(policy.Anchor(c.started, r.Refresh), policy.Anchor(now, r.Refresh))
	}
	if ahead(now, policy.Anchor(c.started, r.Fetched)) > maxAhead {
		sts.Refresh = now
	}
	return sts, nil
}

// anchor puts a time from a record on the clocks of this process; one in the
// future is taken for now.
func (c *Cache) anchor(now, t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	anchored := policy.Anchor(c.started, t)
	if anchored.After(now) {
		// The clock of the start was behind that of the time, which may have
		// been set since.
		anchored = policy.Anchor(now, t)
	}
	return sooner(anchored, now)
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ahead returns how far t lies in the future by the wall clock and by the
// monotonic clock, whichever says less: after a jump of the wall clock, what
// was written before it is not in the future.
func ahead(now, t time.Time) time.Duration {
	return min(t.Sub(now), t.Round(0).Sub(now.Round(0)))
}

// wholeSecond rounds up, so that what a store shows as due is due.
func wholeSecond(t time.Time) time.Time {
	if up := t.Truncate(time.Second); up.Before(t) {
		return up.Add(time.Second)
	}
	return t
}

// recordOf returns what the store is to keep of a fact.
func recordOf(domain policy.Domain, sts *policy.STS, lastUse time.Time) Record {
	r := Record{
		Domain: domain, Refresh: wholeSecond(sts.Refresh.Round(0)), LastUse: lastUse,
		Failure: sts.Failure, Churn: sts.Churn,
	}
	if sts.Policy != nil {
		r.Text, r.ID = sts.Policy.Text, sts.ID
		r.Fetched, r.Expires = sts.Fetched.Round(0), sts.Expires().Round(0)
	}
	return r
}

// keepFetched leaves the time of a fetch in a record as the store has it if that
// lay in the future. By a clock that begins long ago, the policy would be over
// for the next process, which has the right one.
func (c *Cache) keepFetched(now time.Time, r *Record, u *use) {
	kept := fromUnix(u.fetched.Load())
	if kept.IsZero() || kept.After(now) && now.Sub(c.started) >= trustClock {
		return
	}
	r.Expires = r.Expires.Add(kept.Sub(r.Fetched))
	r.Fetched = kept
}
