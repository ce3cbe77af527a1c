package mtasts

import (
	"math/rand/v2"
	"time"

	"tlspolicyd/resolver/policy"
)

// Adopt returns the fact that follows from prev and a policy that another relay
// fetched at a time that is past, for the record with the given id. It is what
// a fetch of our own would have brought then, with a time of our own for the
// next one: relays that refresh at different times need one fetch for all.
func (r *Resolver) Adopt(prev policy.STS, p *policy.STSPolicy, id string, fetched time.Time) policy.STS {
	return r.rules.afterAdoption(time.Now(), prev, adopted{policy: p, id: id, fetched: fetched, spread: rand.Float64()})
}

// adopted is what another relay fetched; spread is as in fetchOutcome.
type adopted struct {
	policy  *policy.STSPolicy
	id      string
	fetched time.Time
	spread  float64
}

func (r rules) afterAdoption(now time.Time, prev policy.STS, a adopted) policy.STS {
	next := prev
	next.Policy, next.ID, next.Fetched = a.policy, a.id, a.fetched
	next.Failure, next.Lost, next.Wanted = policy.Failure{}, false, ""
	next.Refresh = r.refreshAt(a.fetched, fetchOutcome{policy: a.policy, spread: a.spread})
	capAtExpiry(now, &next)
	return next
}
