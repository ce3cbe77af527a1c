package cache

import (
	"context"
	"time"

	"tlspolicyd/resolver/policy"
)

// question is one call of Lookup that memory alone could not answer.
type question struct {
	asked time.Time
	hop   policy.NextHop
	class policy.Class
	// late says that the question waits no longer.
	late    bool
	outcome string

	// flight and lookup are what it waits for, and sts and dane what they
	// have shown so far.
	flight *flight
	lookup *daneFlight
	sts    policy.STS
	dane   policy.DANE
}

// waiting is what a question that cannot be answered yet waits for.
type waiting struct {
	sts, dane <-chan struct{}
	until     time.Time
}

// wait answers a question with the help of flights.
func (c *Cache) wait(ctx context.Context, asked time.Time, hop policy.NextHop, class policy.Class) policy.Verdict {
	q := &question{asked: asked, hop: hop, class: class, outcome: OutcomeFlight}
	timer := time.NewTimer(c.answerWithin)
	defer timer.Stop()
	for {
		w, answered := c.consider(q, time.Now())
		if answered {
			c.metrics.Lookup(q.outcome)
			return policy.Decide(q.judgedAt(), hop.Domain, &q.sts, &q.dane, class)
		}
		timer.Reset(time.Until(w.until))
		select {
		case <-w.sts:
		case <-w.dane:
		case <-timer.C:
		case <-ctx.Done():
			q.late = true
		}
	}
}

// consider looks at what is known at now, joins the flights that the question
// needs, and reports whether it can be answered.
func (c *Cache) consider(q *question, now time.Time) (w waiting, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.until = q.asked.Add(c.answerWithin)
	if !now.Before(w.until) {
		q.late = true
	}
	stsKnown := c.considerSTS(q, now)
	needed := policy.NeedsDANE(q.judgedAt(), &q.sts, q.class)
	if !stsKnown {
		w.sts, w.until = q.flight.changed, earlier(w.until, q.flight.deadline)
		// The MX lookup runs beside the fetch that may make it needed.
		needed = needed || q.class == policy.ClassSTS && q.sts.Wanted != ""
	}
	daneKnown := !needed || c.considerDANE(q, now)
	if !daneKnown {
		w.dane, w.until = q.lookup.landed, earlier(w.until, q.lookup.deadline)
	}
	return w, stsKnown && daneKnown
}

// considerSTS brings q.sts up to date and reports whether it is all that there
// is to wait for. c.mu is held.
func (c *Cache) considerSTS(q *question, now time.Time) bool {
	if q.flight == nil || q.flight.brokeOff(q.asked) {
		q.flight = nil
		if e := c.memory.peek(q.hop.Domain); e != nil && e.settled(q.asked) {
			q.sts = e.sts
			return true
		}
		q.flight = c.joinSTS(q, now)
	}
	f := q.flight
	q.sts = f.sts
	if !q.sts.InForce(q.asked) {
		return q.late || f.landed || !now.Before(f.deadline)
	}
	if f.source != "" && q.outcome == OutcomeResolved {
		q.outcome = f.source
	}
	return true
}

// brokeOff reports whether the flight ended without an answer for who waited
// for it: it was none that looks at the TXT record, or was cut short because
// the domain was forgotten. c.mu is held.
func (f *flight) brokeOff(asked time.Time) bool {
	return f.landed && (f.goal != goalAsk || f.forgotten) && !f.sts.InForce(asked)
}

// considerDANE brings q.dane up to date and reports whether there is nothing
// more to wait for. c.mu is held.
func (c *Cache) considerDANE(q *question, now time.Time) bool {
	if q.lookup == nil {
		if e := c.memory.peek(q.hop.Domain); e != nil {
			if fact := e.hop(q.hop); fact != nil && fact.dane.Fresh(q.asked) {
				q.dane = fact.dane
				return true
			}
		}
		q.lookup = c.joinDANE(q, now)
	}
	q.dane = q.lookup.dane
	return q.late || q.lookup.done || !now.Before(q.lookup.deadline)
}

// judgedAt is the moment as of which the facts are judged: when the question
// was asked. For who waited for a fact that ends as soon as it is learned it is
// the moment at which that was learned, however late he came to wait.
func (q *question) judgedAt() time.Time {
	at := q.asked
	if f := q.flight; f != nil && !q.sts.Fetched.Before(f.started) {
		at = earlier(at, q.sts.Fetched)
	}
	if l := q.lookup; l != nil && !q.dane.Learned.Before(l.started) {
		at = earlier(at, q.dane.Learned)
	}
	return at
}

// earlier returns the earlier of two times; the zero time stands for none.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
