package cache

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// belief is how far a record of the shared store is believed.
type belief uint8

const (
	// unbelieved: the record is of no use.
	unbelieved belief = iota
	// hinted: it says that there is another policy than the one in force
	// here, which only a fetch of our own can show.
	hinted
	// believed: it is as good as a fetch of our own.
	believed
)

// weigh says how far a record of the shared store is believed beside what is
// known here, and returns the fact that follows if it is.
//
// Whoever can write to that store can write anything. So what is in force here
// is changed by nothing but a fetch of our own: a record may only confirm it,
// by a later fetch of the very same text. The id stays our own then: whether that
// in the DNS is another one is for our own eyes to see. Where nothing is
// in force, a policy that enforces is believed, since it may be all that is
// left of the domain; one that does not would keep this relay from finding out
// whether there is one that does.
func (c *Cache) weigh(now time.Time, mine *policy.STS, r *Record) (policy.STS, belief) {
	theirs, ok := c.read(now, mine, r)
	switch {
	case !ok:
		return policy.STS{}, unbelieved
	case !mine.InForce(now) && theirs.Policy.Mode != policy.ModeEnforce:
		return policy.STS{}, unbelieved
	case !mine.InForce(now):
		return theirs, believed
	case mine.Policy.Text != r.Text:
		return policy.STS{}, hinted
	case theirs.Fetched.Sub(mine.Fetched) < c.recheck:
		// A record from a clock that is ahead would be later again and again.
		return policy.STS{}, unbelieved
	default:
		theirs.ID = mine.ID
		return theirs, believed
	}
}

// read makes the fact of a record, and reports whether it can be one: it is of a
// fetch that was made, later than the one that is known here, and is not over.
func (c *Cache) read(now time.Time, mine *policy.STS, r *Record) (policy.STS, bool) {
	p, err := c.parse(r.Text)
	switch {
	case err != nil || !validID(r.ID):
		return policy.STS{}, false
	case ahead(now, policy.Anchor(c.started, r.Fetched)) > maxAhead:
		return policy.STS{}, false
	case mine.Policy != nil && r.Fetched.Unix() <= mine.Fetched.Unix():
		return policy.STS{}, false
	}
	theirs := c.resolver.Adopt(*mine, p, r.ID, c.anchor(now, r.Fetched))
	return theirs, theirs.Expires().After(now) && theirs.InForce(now)
}

// validID reports whether an id is one that a TXT record can have.
//
// RFC 8461, section 3.1: 1 to 32 letters and digits.
func validID(id string) bool {
	for _, b := range []byte(id) {
		letter := b|0x20 >= 'a' && b|0x20 <= 'z'
		if !letter && (b < '0' || b > '9') {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= 32
}

// consult asks the shared store what another relay knows of the domain of a
// flight, and says how far that is believed beside mine. What cannot be read
// there is a miss, and so is what is yet to be removed there after a purge.
func (c *Cache) consult(f *flight, mine *policy.STS) (policy.STS, belief) {
	if c.shared == nil || c.outbox.holdsBack(f.domain) {
		return policy.STS{}, unbelieved
	}
	r, err := c.shared.Load(f.ctx, f.domain)
	switch {
	case err == nil && r.Domain == f.domain:
		return c.weigh(time.Now(), mine, &r)
	case err != nil && !errors.Is(err, ErrNotFound) && f.ctx.Err() == nil:
		c.sharedFailed(opLoad, err)
	}
	return policy.STS{}, unbelieved
}

// adopt makes what another relay fetched known here, durable first like all that
// is learned.
func (c *Cache) adopt(f *flight, mine, theirs *policy.STS) {
	c.commit(f, mine, theirs)
	c.log.Debug("a policy was taken over that another relay fetched",
		zap.Stringer("domain", f.domain), zap.Time("fetched", theirs.Fetched), zap.Time("refresh", theirs.Refresh))
}

// takeOver does for a look what another relay has done before: it returns what
// is known with the help of the shared store, and whether that has a hint of
// more.
func (c *Cache) takeOver(f *flight, mine policy.STS) (policy.STS, bool) {
	theirs, b := c.consult(f, &mine)
	switch b {
	case believed:
		if mine.InForce(time.Now()) && mine.Policy.MaxAge > c.shortLife {
			// It saves a refresh. Here it would count as a fetch, and put off
			// that of an id which the TXT record is about to show.
			return mine, false
		}
		c.markSource(f, OutcomeShared) // before anybody can be answered from it
		c.adopt(f, &mine, &theirs)
		return theirs, false
	case hinted:
		return mine, c.mayVerify(f.domain, &mine)
	default:
		return mine, false
	}
}

// skipFetch does without the fetch of a refresh if another relay has made it.
func (c *Cache) skipFetch(f *flight, mine *policy.STS) bool {
	theirs, b := c.consult(f, mine)
	if b != believed || c.isDue(time.Now(), &theirs, f.use) {
		return false
	}
	c.adopt(f, mine, &theirs)
	return true
}

// maxVain is how often the time between two fetches for hints is doubled.
const maxVain = 8

// verification is the last fetch that was made because of a hint.
type verification struct {
	at time.Time
	// vain is how many before it showed what was known already.
	vain int
}

// over is when another one may follow.
func (v verification) over(recheck time.Duration) time.Time {
	return v.at.Add(recheck << min(v.vain, maxVain))
}

// mayVerify reports whether the policy of a domain may be fetched because of a
// hint: once in a recheck, and less and less often while that shows nothing new,
// so that neither who writes hints nor a policy host that says one thing here and
// another there has this relay fetch without end; and not soon after a fetch that
// failed.
func (c *Cache) mayVerify(domain policy.Domain, mine *policy.STS) bool {
	now := time.Now()
	if !mine.Failure.At.IsZero() && now.Sub(mine.Failure.At) < c.shortLife {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, known := c.verified[domain]
	if known && now.Before(v.over(c.recheck)) || !known && len(c.verified) >= maxHeld {
		return false
	}
	c.verified[domain] = verification{now, v.vain}
	return true
}

// noteVerified notes what a fetch showed that was made because of a hint.
func (c *Cache) noteVerified(domain policy.Domain, prev, next *policy.STS) {
	if !next.Failure.At.IsZero() || prev.Policy == nil || next.Policy == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.verified[domain]
	switch {
	case !ok:
		return
	case prev.Policy.Text == next.Policy.Text:
		v.vain++
	default:
		v.vain = 0
	}
	c.verified[domain] = v
}

// forgetVerified forgets the hints after which there was none for long.
func (c *Cache) forgetVerified(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, v := range c.verified {
		if now.Sub(v.over(c.recheck)) > v.over(c.recheck).Sub(v.at) {
			delete(c.verified, domain)
		}
	}
}
