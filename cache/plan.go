package cache

import (
	"slices"
	"time"

	"tlspolicyd/resolver/policy"
)

// plan says what happens next to what is in a view, and when.
func (c *Cache) plan(v *View) {
	switch {
	case v.Source == "" && v.StoreErr != nil:
		v.add(v.Now, "the next question asks the store and the DNS again; mail waits unless one of them gives a policy")
	case v.Source == "":
		v.add(v.Now, "nothing is known: the next question looks the domain up")
	case v.STS.Lost && !v.STS.InForce(v.Now):
		v.add(v.Look, "the next question from here on asks the store and the DNS again; mail waits unless one of them gives a policy")
	case v.STS.InForce(v.Now):
		c.planPolicy(v)
	default:
		v.add(v.Look, "the next question from here on has the TXT record looked at; until then the domain counts as one without a policy")
	}
	c.planHops(v)
	slices.SortStableFunc(v.Next, byTime)
}

// planPolicy says what happens to a policy in force.
func (c *Cache) planPolicy(v *View) {
	v.add(v.STS.Expires(), "the policy ends, unless it was fetched again by then")
	v.add(v.Look, "the next question from here on has the TXT record looked at, and is answered from the policy meanwhile")
	due := v.STS.Refresh
	if due.IsZero() {
		return
	}
	due = later(due, v.Held)
	if idle := v.LastUse.Add(c.idle); !v.LastUse.IsZero() && idle.Before(due) {
		v.add(idle, "the policy is not fetched again from here on, unless somebody asks")
		return
	}
	v.add(due, "the policy is fetched again, whether anybody asks or not")
}

// planHops says when DANE facts are looked up again.
func (c *Cache) planHops(v *View) {
	for i := range v.Hops {
		h := &v.Hops[i]
		if h.DANE.MX == policy.MXOff {
			continue
		}
		v.add(h.Renew, "the next question that needs them has the MX hosts of "+h.Hop.String()+" looked up again")
		v.add(h.DANE.Expires, "what is known of the MX hosts of "+h.Hop.String()+" ends")
	}
}

// add adds a step; what is overdue is to be done now.
func (v *View) add(at time.Time, what string) {
	v.Next = append(v.Next, Step{later(v.Now, at), what})
}
