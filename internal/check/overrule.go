package check

import (
	"errors"
	"fmt"

	"tlspolicyd/resolver/policy"
)

// tally counts what the mail hosts showed.
type tally struct {
	probed, passed, refused, early int
	// first is the first host that is refused.
	first *Host
	// ended is about a host with which the talk ended before TLS: the first,
	// or the first that could be reached.
	ended *Host
}

// passed reports whether Postfix would deliver to the host.
func (p *Probe) passed() bool { return p.Refused == "" && !p.Early() }

func (r *Report) tally() tally {
	var n tally
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
			if n.ended == nil || errors.Is(n.ended.Probe.Err, ErrUnreachable) {
				n.ended = h
			}
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

// why says what is wrong with the first host that is refused.
func (n *tally) why() string { return n.first.Name + ": " + n.first.Probe.Refused }

// whyEarly says how the talk with a host ended before TLS.
func (n *tally) whyEarly() string { return n.ended.Name + ": " + n.ended.Probe.Err.Error() }

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
		if n.early > 0 {
			c.first(fmt.Sprintf("%d of %d mail hosts did not get as far as TLS; %s", n.early, n.probed, n.whyEarly()))
		}
		if n.refused > 0 {
			c.first(fmt.Sprintf("%d of %d mail hosts get no mail; %s", n.refused, n.probed, n.why()))
		}
	case n.early == 0:
		c.Outcome, c.Summary = Deferred, "mail is deferred: no mail host meets "+r.demand()
		c.first(n.why())
		c.Remedy = "the domain's administrator: " + r.repair(n.first.Probe)
	case c.Outcome == Authenticated:
		r.leaveOpen(c, &n)
	}
}

// leaveOpen concludes that too little was seen of the hosts.
func (r *Report) leaveOpen(c *Conclusion, n *tally) {
	c.Outcome, c.Summary = Unknown, "it cannot be known whether mail gets through: no mail host got as far as TLS"
	c.first(n.whyEarly())
	err := n.ended.Probe.Err
	switch {
	case n.refused > 0:
		c.Summary = "it cannot be known whether mail gets through: some mail hosts did not get as far as TLS, and the others do not meet " + r.demand()
		c.first(n.why())
	case errors.Is(err, ErrUnreachable):
		c.Summary = "no mail host can be reached from here, so mail waits"
	}
	switch {
	case errors.Is(err, ErrUnreachable):
		c.Remedy = fmt.Sprintf("if others reach them, the way out to port %d is closed here", r.Hop.Port)
	case errors.Is(err, ErrTurnedAway):
		c.Remedy = "the host turns this machine away before TLS, whatever the policy is: its answer says why (a block list, greylisting, too many connections), and no exception helps"
	case errors.Is(err, ErrNotBegun):
		c.Remedy = "the domain's administrator: the host offers STARTTLS and does not begin it; if that lasts, the exception below lets mail out"
	default:
		c.Remedy = "look again later, or from another network: Postfix has more patience (smtp_helo_timeout), and no exception helps"
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

// repair says what the domain has to do about hosts that are refused.
func (r *Report) repair(p *Probe) string {
	const untilThen = "; until then, the exception below lets mail out"
	switch {
	case errors.Is(p.Err, ErrNoSTARTTLS):
		return "offer STARTTLS; if it is offered elsewhere, somebody on the way takes it out, and an exception hands mail to them"
	case r.by("policy").Kind == policy.Secure:
		return "repair the certificates, or the policy" + untilThen
	default:
		return "publish the TLSA records of the certificates in use" + untilThen
	}
}

// demand is what the hosts have to meet.
func (r *Report) demand() string {
	if r.by("policy").Kind == policy.Secure {
		return "the domain's MTA-STS policy"
	}
	return "the domain's TLSA records"
}
