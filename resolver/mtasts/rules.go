package mtasts

import (
	"time"

	"tlspolicyd/resolver/policy"
)

// The times that no option changes.
const (
	// maxRecheck is the longest time between two looks at a record that
	// somebody asks for, whatever its TTL says.
	maxRecheck = time.Hour
	// minRecheck is the shortest time between two looks at a domain without
	// a policy in force.
	minRecheck = 5 * time.Second
	// maxRetry is the time between two fetches for one id after a failure
	// (RFC 8461, section 3.3), and the least time between a fetch and the
	// refresh that follows.
	maxRetry = 5 * time.Minute
	// shortRecheck is the recheck below which recheck stands for maxRetry.
	shortRecheck = time.Minute
	// maxBackoff is the longest time between two refreshes that fail.
	maxBackoff = 6 * time.Hour
	// maxShift keeps the doubling of the back-off from overflowing.
	maxShift = 16

	// churnLimit is the number of changes of the id without a change of the
	// policy, or from one that failed to another that failed, that a domain
	// may make in a churnWindow. After those, changes
	// are followed once in churnPause.
	churnLimit  = 5
	churnWindow = time.Hour
	churnPause  = 15 * time.Minute
)

// rules are the rules of time: how one fact follows from another. Nothing here
// does I/O or reads a clock.
type rules struct {
	// recheck is the least time between two looks at a record and between two
	// fetches of a policy.
	recheck time.Duration
	// refresh is the most time between two fetches of a policy in use.
	refresh time.Duration
}

// retry is the time between two fetches for one id after a failure. A policy
// that lives no longer is renewed by queries only.
func (r rules) retry() time.Duration {
	if r.recheck < shortRecheck {
		return r.recheck
	}
	return maxRetry
}

// lookOutcome is what a look at the TXT record showed.
type lookOutcome struct {
	state policy.RecordState
	// id is that of the record; only for RecordFound.
	id string
	// ttl is how long the answer may be remembered; not for RecordFailed.
	ttl time.Duration
	// detail says why the record is absent or failed.
	detail string
}

// afterLook returns the fact that follows from prev and a look that ended at
// now. It says in Wanted whether a policy is to be fetched.
func (r rules) afterLook(now time.Time, prev policy.STS, o lookOutcome) policy.STS {
	next := prev
	next.Record, next.Detail, next.Looked, next.Wanted = o.state, o.detail, now, ""
	next.Recheck = now.Add(r.rememberLook(next.InForce(now), o))
	if o.state == policy.RecordFound && r.mayWant(now, &prev, o.id) {
		if try := r.nextTry(now, &prev, o.id); try.After(now) {
			next.Recheck = earlier(next.Recheck, try)
		} else {
			next.Wanted = o.id
		}
	}
	capAtExpiry(now, &next)
	return next
}

// rememberLook returns how long to do without another look. RFC 8461, section
// 5, wants the record looked at again before a mail bounces; so an hour is the
// limit.
func (r rules) rememberLook(inForce bool, o lookOutcome) time.Duration {
	switch {
	case o.state == policy.RecordFailed:
		return r.recheck
	case inForce:
		return clamp(o.ttl, r.recheck, maxRecheck)
	default:
		return clamp(o.ttl, min(minRecheck, r.recheck), maxRecheck)
	}
}

// mayWant reports whether a record with id asks for a fetch at all.
func (r rules) mayWant(now time.Time, s *policy.STS, id string) bool {
	// RFC 8461, section 3.1: ids have no order; another one is a new one.
	return !s.InForce(now) || id != s.ID || r.short(s)
}

// short reports whether the policy lives so short a time that queries renew it
// rather than refreshes.
func (r rules) short(s *policy.STS) bool {
	return s.Policy.MaxAge <= r.retry()
}

// nextTry returns from when on the policy of id may be fetched.
func (r rules) nextTry(now time.Time, s *policy.STS, id string) time.Time {
	last := r.lastSuccess(s)
	try := last.Add(r.recheck)
	if f := s.Failure; !f.At.IsZero() && !outlived(now, s) {
		last = later(last, f.At)
		try = later(try, f.At.Add(r.recheck))
		if f.ID == id {
			// RFC 8461, section 3.3: after a failure, limit further
			// attempts to one per five minutes per version id.
			try = later(try, f.At.Add(r.retry()))
		}
	}
	return later(try, churnEnd(s, id, last))
}

// lastSuccess returns the time of the last fetch that brought a policy. One
// that came right after a look counts from the look on, so that a look a
// recheck later may fetch again, however long the first fetch took.
func (r rules) lastSuccess(s *policy.STS) time.Time {
	if s.Fetched.Sub(s.Looked) < r.recheck {
		return earlier(s.Fetched, s.Looked)
	}
	return s.Fetched
}

// outlived reports whether the last failure fell into the life of a policy
// that is over by now. Such a failure holds nothing up: with the policy in
// force it did no harm, and with the policy gone one fetch is due at once.
func outlived(now time.Time, s *policy.STS) bool {
	return s.Policy != nil && !s.InForce(now) && s.Failure.At.Before(s.Expires())
}

// churnEnd returns until when a changed id is not followed because so many
// changes before it meant nothing; last is the time of the last attempt.
func churnEnd(s *policy.STS, id string, last time.Time) time.Time {
	if s.Churn.Count < churnLimit || id == s.ID {
		return time.Time{}
	}
	return earlier(last.Add(churnPause), s.Churn.Since.Add(churnWindow))
}

// fetchOutcome is what a fetch brought: a policy or a failure.
type fetchOutcome struct {
	// started is when the fetch began.
	started time.Time
	// policy is what was fetched; nil if the fetch failed.
	policy *policy.STSPolicy
	// kind and reason say why it failed.
	kind, reason string
	// spread is a random number in [0,1) that spreads refreshes over time.
	spread float64
}

// afterFetch returns the fact that follows from prev and a fetch, for
// prev.Wanted or as a refresh, that ended at now.
func (r rules) afterFetch(now time.Time, prev policy.STS, o fetchOutcome) policy.STS {
	if o.kind == resultBusy {
		return r.putOff(now, prev, o)
	}
	next := prev
	next.Wanted = ""
	if o.policy != nil {
		r.fetched(now, &next, prev, o)
	} else {
		r.failed(now, &next, prev, o)
	}
	capAtExpiry(now, &next)
	return next
}

// fetched puts the new policy in the place of the old one, whatever their
// modes: a domain may take back at once what it enforced
// (RFC 8461, section 8.3).
func (r rules) fetched(now time.Time, next *policy.STS, prev policy.STS, o fetchOutcome) {
	// RFC 8461, section 3.2: the life of a policy runs from its last fetch.
	next.Policy, next.Fetched = o.policy, now
	next.Failure, next.Lost = policy.Failure{}, false
	next.Refresh = r.refreshAt(now, o)
	if prev.Wanted == "" {
		return
	}
	next.ID = prev.Wanted
	next.Churn = churned(now, prev, o.policy.Text)
	// A policy in force is looked after at the pace of those.
	next.Recheck = later(prev.Recheck, prev.Looked.Add(r.recheck))
	if r.short(next) {
		next.Recheck = earlier(next.Recheck, now.Add(r.recheck))
	}
}

// refreshAt returns when a policy fetched at now is to be fetched again: after
// half of its life at the latest (RFC 8461, section 10.2), and up to a tenth
// earlier, so that what was learned together is not refreshed together.
func (r rules) refreshAt(now time.Time, o fetchOutcome) time.Time {
	if o.policy.MaxAge <= r.retry() {
		return time.Time{}
	}
	wait := min(r.refresh, o.policy.MaxAge/2)
	wait -= time.Duration(o.spread * float64(wait/10))
	return now.Add(max(wait, r.retry()))
}

// churned counts a change of the id that changed nothing else.
func churned(now time.Time, prev policy.STS, text string) policy.Churn {
	if prev.Policy == nil || prev.ID == prev.Wanted || prev.Policy.Text != text {
		return prev.Churn
	}
	return once(now, prev.Churn)
}

// churnedInVain counts a change of an id that failed to one that failed too.
// Else two ids by turns, as from DNS servers that do not agree, would be tried
// far more often than each of them may be.
func churnedInVain(now time.Time, prev policy.STS) policy.Churn {
	if prev.Wanted == "" || prev.Failure.At.IsZero() || prev.Failure.ID == prev.Wanted {
		return prev.Churn
	}
	return once(now, prev.Churn)
}

// once counts one more change.
func once(now time.Time, c policy.Churn) policy.Churn {
	if c.Count == 0 || now.Sub(c.Since) >= churnWindow {
		return policy.Churn{Count: 1, Since: now}
	}
	c.Count++
	return c
}

// failed notes the failure and leaves everything else in force.
// RFC 8461, section 3.3: without a new policy the cached one applies.
func (r rules) failed(now time.Time, next *policy.STS, prev policy.STS, o fetchOutcome) {
	next.Failure = policy.Failure{
		ID: failedID(prev), At: now, Count: prev.Failure.Count + 1,
		Kind: o.kind, Reason: o.reason,
	}
	next.Churn = churnedInVain(now, prev)
	if prev.InForce(o.started) && !prev.InForce(now) {
		// The policy ended while the fetch hung. The failure belongs to its
		// life, or the next fetch would have to wait; see outlived.
		next.Failure.At = o.started
	}
	if prev.Wanted != "" {
		next.Recheck = earlier(prev.Recheck, r.nextTry(now, next, prev.Wanted))
		if !next.Refresh.IsZero() {
			// A refresh would ask for the same file.
			next.Refresh = later(next.Refresh, now.Add(r.retry()))
		}
	} else {
		next.Refresh = now.Add(r.backoff(now, next))
	}
	if !next.InForce(now) || !next.Refresh.Before(next.Expires()) {
		// What has expired is fetched when somebody asks, not refreshed.
		next.Refresh = time.Time{}
	}
}

// putOff returns the fact that follows from prev if there was no place for a
// fetch: nothing was learned. What a look wanted, the next look wants again. A
// refresh is put off by a random time, as what was put off together would be in
// its own way again; the whole of what backoff may come to is used for that, as
// its host may be one of hundreds of thousands of domains, and may hang.
func (r rules) putOff(now time.Time, prev policy.STS, o fetchOutcome) policy.STS {
	next := prev
	if prev.Wanted != "" {
		next.Recheck = earlier(prev.Recheck, now.Add(r.recheck))
		return next
	}
	most := max(r.retry(), min(maxBackoff, prev.Expires().Sub(now)/4))
	next.Refresh = now.Add(r.retry() + time.Duration(o.spread*float64(most-r.retry())))
	if !next.Refresh.Before(next.Expires()) {
		next.Refresh = time.Time{}
	}
	return next
}

// failedID returns the id that a failure counts against. A refresh asks for no
// id: it fetches what a changed id that failed before would fetch, and must
// not make that forgotten.
func failedID(prev policy.STS) string {
	switch {
	case prev.Wanted != "":
		return prev.Wanted
	case prev.Failure.ID != "":
		return prev.Failure.ID
	default:
		return prev.ID
	}
}

// backoff returns how long to wait after a refresh that failed.
func (r rules) backoff(now time.Time, s *policy.STS) time.Duration {
	wait := r.retry() << min(s.Failure.Count-1, maxShift)
	wait = min(wait, maxBackoff, s.Expires().Sub(now)/4)
	return max(wait, r.retry())
}

// capAtExpiry makes the first query after the end of the policy look at once.
func capAtExpiry(now time.Time, s *policy.STS) {
	if end := s.Expires(); s.InForce(now) && end.After(now) {
		s.Recheck = earlier(s.Recheck, end)
	}
}

// clamp returns d, but at least low, and at most high if that is not below low.
func clamp(d, low, high time.Duration) time.Duration {
	return max(low, min(d, high))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
