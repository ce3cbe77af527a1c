package check

import (
	"errors"
	"fmt"

	"tlspolicyd/resolver/policy"
)

// tally counts what the mail hosts showed.
type tally struct {
	probed, passed, refused, early int
	// silent is with how many of the early ones it did not come to STARTTLS, so
	// that they take no mail in clear either.
	silent int
	// first is the first host that is refused.
	first *Host
	// ended is about a host with which the talk ended before TLS: the first,
	// or the first that could be reached. mixed says that it ended in several
	// ways.
	ended *Host
	mixed bool
	// unseen is how many hosts are not looked at, since there are so many.
	unseen int
}

// passed reports whether Postfix would deliver to the host.
func (p *Probe) passed() bool { return p.Refused == "" && !p.Early() }

func (r *Report) tally() tally {
	n := tally{unseen: max(0, len(r.Hosts)-maxHosts)}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		p := h.Probe
		switch {
		case p == nil:
			continue
		case p.passed():
			n.passed++
		case p.Refused == "":
			n.early++
			if !p.STARTTLS {
				n.silent++
			}
			n.end(h)
		default:
			n.refused++
			if n.first == nil {
				n.first = h
			}
		}
		n.probed++
	}
	return n
}

// end counts a host with which the talk ended before TLS.
func (n *tally) end(h *Host) {
	if n.ended == nil {
		n.ended = h
		return
	}
	n.mixed = n.mixed || n.ended.Probe.ending() != h.Probe.ending()
	if errors.Is(n.ended.Probe.Err, ErrUnreachable) && !errors.Is(h.Probe.Err, ErrUnreachable) {
		n.ended = h
	}
}

// why says what is wrong with the first host that is refused.
func (n *tally) why() string { return n.first.Name + ": " + n.first.Probe.Refused }

// whyEarly says how the talk with a host ended before TLS.
func (n *tally) whyEarly() string { return n.ended.Name + ": " + n.ended.Probe.Err.Error() }

// overruleByProbes corrects the conclusion by what the hosts showed. Where
// nothing is demanded of them, there is nothing to correct, but that they cannot
// be talked to.
func (r *Report) overruleByProbes(c *Conclusion) {
	n := r.tally()
	switch {
	case n.probed == 0:
	case c.Outcome == Authenticated, c.Outcome == Deferred:
		r.overruleDemand(c, &n)
	case c.Outcome == Unauthenticated && n.silent == n.probed && n.unseen == 0:
		c.first("mail waits all the same: " + n.whyEarly())
		c.Remedy = n.ended.Probe.ending().remedy(r)
	}
}

// overruleDemand corrects the conclusion where something is demanded of the hosts.
func (r *Report) overruleDemand(c *Conclusion, n *tally) {
	switch {
	case n.passed > 0:
		c.rehabilitate()
		if n.early > 0 {
			c.first(fmt.Sprintf("%d of %d mail hosts did not get as far as TLS; %s", n.early, n.probed, n.whyEarly()))
		}
		if n.refused > 0 {
			c.first(fmt.Sprintf("%d of %d mail hosts get no mail; %s", n.refused, n.probed, n.why()))
		}
	case n.early == 0 && n.unseen == 0:
		c.Outcome, c.Summary = Deferred, "mail is deferred: no mail host meets "+r.demand()
		c.first(n.why())
		c.Remedy = r.repair(n.first)
	case c.Outcome == Authenticated:
		r.leaveOpen(c, n)
	}
}

// leaveOpen concludes that too little was seen of the hosts.
func (r *Report) leaveOpen(c *Conclusion, n *tally) {
	c.Outcome, c.Summary = Unknown, r.open(n)
	if n.unseen > 0 {
		c.first(fmt.Sprintf("%d more mail hosts are not looked at", n.unseen))
	}
	if n.early == 0 {
		c.first(n.why())
		c.Remedy = r.repair(n.first)
		return
	}
	c.first(n.whyEarly())
	if n.refused > 0 {
		c.first(n.why())
	}
	c.Remedy = n.ended.Probe.ending().remedy(r)
}

// open says what is not known of the hosts.
func (r *Report) open(n *tally) string {
	const unknown = "it cannot be known whether mail gets through: "
	none := "no mail host"
	if n.unseen > 0 {
		none = fmt.Sprintf("none of the %d mail hosts that were looked at", n.probed)
	}
	switch {
	case n.early == 0:
		return unknown + none + " meets " + r.demand()
	case n.refused > 0:
		return unknown + "some mail hosts did not get as far as TLS, and the others do not meet " + r.demand()
	case !n.mixed && n.unseen == 0 && n.ended.Probe.ending().all != "":
		return n.ended.Probe.ending().all
	default:
		return unknown + none + " got as far as TLS"
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

// repair says what is to be done about hosts that are refused.
func (r *Report) repair(h *Host) string {
	end := h.Probe.ending()
	switch {
	case end != nil:
		return end.remedy(r)
	case r.by("policy").Kind == policy.Secure && !h.Listed:
		return newPolicy
	case r.by("policy").Kind == policy.Secure:
		return theirs + "repair the certificates, or the policy" + untilThen
	default:
		return theirs + "publish the TLSA records of the certificates in use" + untilThen
	}
}

// demand is what the hosts have to meet.
func (r *Report) demand() string {
	if r.by("policy").Kind == policy.Secure {
		return "the domain's MTA-STS policy"
	}
	return "the domain's TLSA records"
}
