package check

import (
	"fmt"

	"tlspolicyd/resolver/policy"
)

// tally counts what the mail hosts showed.
type tally struct {
	probed, reached, passed int
	// why says what is wrong with the first host that is refused.
	why string
}

func (r *Report) tally() tally {
	var n tally
	for _, h := range r.Hosts {
		p := h.Probe
		if p == nil {
			continue
		}
		n.probed++
		if p.Target != "" {
			n.reached++
		}
		if p.Refused == "" {
			n.passed++
		} else if n.why == "" {
			n.why = h.Name + ": " + p.Refused
		}
	}
	return n
}

// overruleByProbes corrects the conclusion by what the hosts showed. Where
// nothing is demanded of them, there is nothing to correct.
func (r *Report) overruleByProbes(c *Conclusion) {
	n := r.tally()
	if n.probed == 0 || c.Outcome != Authenticated && c.Outcome != Deferred {
		return
	}
	switch {
	case n.passed > 0:
		c.rehabilitate()
		if n.passed < n.probed {
			c.first(fmt.Sprintf("%d of %d mail hosts get no mail; %s", n.probed-n.passed, n.probed, n.why))
		}
	case n.reached > 0:
		c.Outcome, c.Summary = Deferred, "mail is deferred: no mail host meets "+r.demand()
		c.first(n.why)
		c.Remedy = "the domain's administrator: repair the certificates, or the policy; until then, the exception below lets mail out"
	case c.Outcome == Authenticated:
		c.Outcome, c.Summary = Unknown, "no mail host can be reached from here, so mail waits"
		c.first(n.why)
		c.Remedy = fmt.Sprintf("if others reach them, the way out to port %d is closed here", r.Hop.Port)
	}
}

// first puts a cause before the others.
func (c *Conclusion) first(why string) { c.Because = append([]string{why}, c.Because...) }

// rehabilitate takes back that mail is deferred because no host is in the
// policy: the certificates of some are what older rules ask for.
func (c *Conclusion) rehabilitate() {
	if c.Outcome != Deferred {
		return
	}
	c.Outcome = Authenticated
	c.Summary = "mail is authenticated by MTA-STS, but only by Postfix before 3.10.5, or with map policy"
	c.Because = append([]string{"no mail host is in the policy; the certificates match it all the same"}, c.Because[:1]...)
}

// demand is what the hosts have to meet.
func (r *Report) demand() string {
	if r.by("policy").Kind == policy.Secure {
		return "the domain's MTA-STS policy"
	}
	return "the domain's TLSA records"
}
