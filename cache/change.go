package cache

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// maxExpiring is the number of policies that are watched for failing
// refreshes; no more are warned about.
const maxExpiring = 10_000

// tellChange logs and counts what a fetch did to a policy.
func (c *Cache) tellChange(domain policy.Domain, prev, next *policy.STS) {
	now := time.Now()
	c.watch(now, domain, next)
	if next.Policy == nil || next.Policy == prev.Policy {
		return
	}
	change := changeOf(now, prev, next)
	if change == "" {
		return
	}
	c.metrics.PolicyChanged(change)
	fields := []zap.Field{
		zap.Stringer("domain", domain), zap.String("change", change),
		zap.Stringer("mode", next.Policy.Mode), zap.Duration("max_age", next.Policy.MaxAge), zap.String("id", next.ID),
	}
	if change != ChangeNew {
		fields = append(fields, zap.Stringer("old_mode", prev.Policy.Mode), zap.Duration("old_max_age", prev.Policy.MaxAge))
	}
	if change == ChangeWeaker || change == ChangeRemoved && prev.Policy.Mode == policy.ModeEnforce {
		c.log.Warn("a domain weakened its MTA-STS policy; the weaker one applies", fields...)
		return
	}
	c.log.Info("a domain has another MTA-STS policy", fields...)
}

// changeOf returns what a new policy means beside the previous one; empty if
// it says the same.
func changeOf(now time.Time, prev, next *policy.STS) string {
	if !prev.InForce(now) {
		return ChangeNew
	}
	from, to := prev.Policy, next.Policy
	switch {
	case to.Mode > from.Mode:
		return ChangeStronger
	case to.Mode < from.Mode && to.Mode == policy.ModeNone:
		return ChangeRemoved
	case to.Mode < from.Mode || to.MaxAge < from.MaxAge:
		return ChangeWeaker
	case to.MaxAge > from.MaxAge || !slices.Equal(to.MX, from.MX):
		return ChangeOther
	default:
		return ""
	}
}

// watch warns, once, of a policy past half of its life whose fetches fail.
//
// RFC 8461, section 3.3 and 10.2: failures are told long before the policy
// ends, but not for mode none.
func (c *Cache) watch(now time.Time, domain policy.Domain, sts *policy.STS) {
	failing := sts.InForce(now) && sts.Policy.Mode != policy.ModeNone &&
		!sts.Failure.At.IsZero() && policy.Age(now, sts.Fetched) >= sts.Policy.MaxAge/2
	c.mu.Lock()
	_, known := c.expiring[domain]
	warn := failing && !known && len(c.expiring) < maxExpiring
	switch {
	case warn:
		c.expiring[domain] = sts.Expires()
	case !failing:
		delete(c.expiring, domain)
	}
	c.mu.Unlock()
	if warn {
		c.log.Warn("an MTA-STS policy is past half of its life and cannot be fetched again; it applies until it expires",
			zap.Stringer("domain", domain), zap.Time("expires", sts.Expires()),
			zap.Int("failures", sts.Failure.Count), zap.String("reason", sts.Failure.Reason))
	}
}

// unwatchEnded forgets the policies that have ended: nobody fetches those
// again, unless somebody asks.
func (c *Cache) unwatchEnded(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for domain, end := range c.expiring {
		if policy.Age(now, end) >= 0 {
			delete(c.expiring, domain)
		}
	}
}
