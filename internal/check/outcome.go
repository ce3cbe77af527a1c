package check

import (
	"fmt"
	"strings"

	"tlspolicyd/resolver/policy"
)

// Outcome is what becomes of mail, in a word.
type Outcome uint8

// The outcomes. The zero value is the one that promises nothing.
const (
	// Unknown: it cannot be known now.
	Unknown Outcome = iota
	// Authenticated: mail goes to hosts that prove who they are, or not at all.
	Authenticated
	// Unauthenticated: mail goes out; whoever sits on the way may read it.
	Unauthenticated
	// Deferred: what the domain publishes keeps mail from it.
	Deferred
	// Undeliverable: the domain takes no mail.
	Undeliverable
)

// String returns the outcome as a word.
func (o Outcome) String() string {
	switch o {
	case Authenticated:
		return "authenticated"
	case Unauthenticated:
		return "unauthenticated"
	case Deferred:
		return "deferred"
	case Undeliverable:
		return "undeliverable"
	default:
		return "unknown"
	}
}

// Conclusion is what a report means, for people.
type Conclusion struct {
	Outcome Outcome
	// Summary is one sentence; Because are the causes, the first one first.
	Summary string
	Because []string
	// Remedy says what can be done, and by whom; it may be empty.
	Remedy string
	// Here is what this machine lacks for the summary to come true, what harms
	// most first.
	Here []string
}

// conclude draws the conclusion.
func (r *Report) conclude() {
	c := r.conclusion()
	if k := r.Recalled; k != nil {
		k.DNS, k.MXErr = r.DNS, r.MXErr
		network := "the network says now: " + c.Summary
		c = k.conclusion()
		if k.STS.Policy != nil {
			network = "the daemon remembers this policy until " + stamp(k.STS.Expires()) + "; " + network
		}
		c.first(network)
	}
	leftToDANE := c.Outcome == Authenticated && r.decisive().by("policy").Kind == policy.NotFound
	r.decisive().overruleByProbes(&c)
	if r.Postfix != nil {
		c.Here = append(c.Here, r.Postfix.harm(r.decisive())...)
		if leftToDANE {
			c.Here = append(c.Here, r.Postfix.harmToDANE(r.decisive())...)
		}
	}
	if r.Blind {
		c.Here = append(c.Here, "DANE is off: "+r.blindness())
	}
	if r.Hop.Port == 0 {
		c.Here = append(c.Here, "this machine does not know the port of the service in the key (/etc/services), so no TLSA record is looked up")
	}
	c.Here = append(c.Here, r.disagreement()...)
	r.Conclusion = c
}

// conclusion goes by the facts as the network gives them.
func (r *Report) conclusion() Conclusion {
	if c, ok := r.undeliverable(); ok {
		return c
	}
	v := r.by("policy")
	switch v.Kind {
	case policy.Secure:
		return r.enforced(v)
	case policy.DANEOnly:
		return Conclusion{Outcome: Authenticated, Summary: "mail is authenticated by DANE, which goes before the domain's MTA-STS policy",
			Because: []string{v.Reason}}
	case policy.NotFound:
		return r.notEnforced()
	default:
		if r.STS.Lost && r.STS.Policy == nil {
			return Conclusion{Outcome: Unknown, Summary: "mail waits, for a minute at most: the daemon's store was damaged, and may hold a policy of this domain",
				Because: []string{v.Reason}, Remedy: "tlspolicyd status shows how the store is; its log says what was saved"}
		}
		return Conclusion{Outcome: Unknown, Summary: "mail waits: the domain enforces MTA-STS, and it cannot be known whether DANE goes before it",
			Because: []string{withDetail(v.Reason, v.Detail)},
			Remedy:  r.dnsRemedy()}
	}
}

// undeliverable says why no mail can be delivered at all.
func (r *Report) undeliverable() (Conclusion, bool) {
	c := Conclusion{Outcome: Undeliverable}
	switch {
	case r.MXErr != nil:
		return c, false
	case len(r.MX) == 0 && !r.exists():
		c.Summary = "no mail can be delivered: there is no such domain"
		c.Remedy = "look at the spelling; an exception does not help"
	case len(r.MX) == 0:
		c.Summary = "no mail can be delivered: the domain takes none (null MX, RFC 7505)"
	case r.homeless() && r.Hop.SmartHost:
		c.Summary = "no mail can be delivered: the smart host has no address"
		c.Remedy = "look at its spelling, in the transport map or relayhost; an exception does not help"
	case r.homeless():
		c.Summary = "no mail can be delivered: no mail host of the domain has an address"
		c.Because = []string{"the mail hosts are " + some(names(r.Hosts))}
		c.Remedy = theirs + "publish an address for a mail host, or name others in the MX records"
	default:
		return c, false
	}
	return c, true
}

// homeless reports whether no mail host has an address.
func (r *Report) homeless() bool {
	for _, h := range r.Hosts {
		if len(h.Addresses) > 0 || h.AddressErr != nil {
			return false
		}
	}
	return len(r.Hosts) <= maxHosts
}

func names(hosts []Host) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name)
	}
	return list
}

// exists reports whether the DNS knows the domain.
func (r *Report) exists() bool {
	for _, s := range r.DNS {
		if s.Type == "MX" && s.Name == r.Hop.Domain.String() {
			return s.Answer.Exists
		}
	}
	return true
}

// enforced is the conclusion where MTA-STS is enforced.
func (r *Report) enforced(v policy.Verdict) Conclusion {
	c := Conclusion{Outcome: Authenticated, Summary: "mail is authenticated by MTA-STS (mode enforce)", Because: []string{v.Reason}}
	var strangers []string
	for _, h := range r.Hosts {
		if !h.Listed {
			strangers = append(strangers, h.Name)
		}
	}
	switch {
	case r.MXErr != nil:
		c.Because = append(c.Because, r.MXErr.Error())
	case len(strangers) == 0:
	case len(strangers) < len(r.Hosts):
		c.Because = []string{"not in the policy, so no mail goes there: " + some(strangers)}
		c.Remedy = theirs + "add an mx line for each mail host to the policy, then change the id"
	default:
		// RFC 8461, section 4.1: the host must match one of the patterns.
		c.Outcome, c.Summary = Deferred, "mail is deferred: no mail host of the domain is in the MTA-STS policy that it enforces"
		c.Because = []string{fmt.Sprintf("the policy allows %s; the mail hosts are %s", some(patterns(r.STS.Policy)), some(strangers))}
		if r.tally().probed == 0 {
			c.Because = append(c.Because, "Postfix before 3.10.5, and map policy, go by the names in the certificate instead: see --smtp")
		}
		c.Remedy = newPolicy
	}
	return c
}

func patterns(p *policy.STSPolicy) []string {
	var list []string
	for _, mx := range p.MX {
		list = append(list, mx.String())
	}
	return list
}

// notEnforced is the conclusion where the policy map has nothing to say.
func (r *Report) notEnforced() Conclusion {
	if r.by("policy-dane").Kind == policy.DANEOnly {
		return Conclusion{Outcome: Authenticated, Summary: "mail is authenticated by DANE, where Postfix's own level is dane",
			Because: []string{"every mail host has DANE", r.whyNotEnforced()}}
	}
	if r.MXErr != nil {
		return Conclusion{Outcome: Unknown, Summary: "no mail can be delivered now: the mail hosts cannot be looked up",
			Because: []string{r.MXErr.Error()}, Remedy: r.dnsRemedy()}
	}
	if r.daneFailed() {
		return Conclusion{Outcome: Unknown, Summary: "no MTA-STS policy is enforced, and it cannot be known whether the mail hosts have DANE",
			Because: []string{withDetail(r.by("policy-dane").Reason, r.DANE.Detail), r.whyNotEnforced()}, Remedy: r.dnsRemedy()}
	}
	c := r.unprotected()
	if r.by("policy-dane").Kind == policy.DANEWhereFound {
		c.Because = append(c.Because, "DANE: "+r.by("policy-dane").Reason)
	}
	return c
}

// daneFailed reports whether DANE could not be looked up for some host.
func (r *Report) daneFailed() bool {
	if r.DANE.MX == policy.MXFailed {
		return true
	}
	for _, h := range r.DANE.Hosts {
		if h.State == policy.HostFailed || h.State == policy.HostUnreachable {
			return true
		}
	}
	return false
}

// unprotected is the conclusion where neither MTA-STS nor DANE protects mail.
func (r *Report) unprotected() Conclusion {
	c := Conclusion{Outcome: Unauthenticated, Because: []string{r.whyNotEnforced()}}
	if p := r.STS.Policy; p != nil {
		c.giveUp(p.Mode)
		return c
	}
	switch {
	case r.recordNotKnown():
		c.Outcome, c.Summary = Unknown, "it cannot be known whether the domain has an MTA-STS policy; mail goes out without one"
		c.Remedy = r.dnsRemedy()
	case r.STS.Failure.Reason != "":
		c.Summary = "mail is not authenticated: the domain announces an MTA-STS policy that cannot be used"
		c.Remedy = r.fetchRemedy()
	case r.hasRecord():
		c.Summary = "mail is not authenticated: the MTA-STS record of the domain is not valid"
		c.Remedy = fmt.Sprintf(theirs+"exactly one TXT record at _mta-sts.%s, as in \"v=STSv1; id=20260101T000000Z\"", r.Hop.Domain)
	case r.DANE.MX == policy.MXOff:
		c.Summary = "mail is not authenticated: the domain publishes no MTA-STS policy (and DANE is not looked at)"
	default:
		c.Summary = "mail is not authenticated: the domain publishes no MTA-STS policy, and no DANE for all of its mail hosts"
	}
	return c
}

// recordNotKnown reports whether the DNS did not say if there is a record.
func (r *Report) recordNotKnown() bool {
	return r.STS.Record == policy.RecordFailed || r.STS.Record == policy.RecordUnknown
}

// giveUp says that a policy demands nothing.
func (c *Conclusion) giveUp(mode policy.Mode) {
	c.Summary = "mail is not authenticated: the domain has given MTA-STS up (mode none)"
	if mode == policy.ModeTesting {
		c.Summary = "mail is not authenticated: the domain's MTA-STS policy is in testing"
		c.Remedy = "nothing to do here: it is for the domain to change mode: testing to mode: enforce"
	}
}

// hasRecord reports whether there is a TXT record that seems to be meant as one
// of MTA-STS.
func (r *Report) hasRecord() bool {
	for _, s := range r.DNS {
		if s.Type == "TXT" && strings.Contains(strings.ToLower(strings.Join(s.Records(), " ")), "sts") {
			return true
		}
	}
	return false
}

// whyNotEnforced says why no policy is enforced.
func (r *Report) whyNotEnforced() string {
	switch {
	case r.STS.Policy != nil:
		return r.by("policy").Reason
	case r.STS.Failure.Reason != "":
		return "the fetch of the policy failed: " + r.STS.Failure.Reason
	case r.STS.Detail != "":
		return "MTA-STS record: " + r.STS.Detail
	default:
		return r.by("policy").Reason
	}
}

// dnsRemedy says what to do about lookups that fail.
func (r *Report) dnsRemedy() string {
	for _, s := range r.Servers {
		if s.Outcome.String() != "silent" {
			return "the failing lookup is below; if the domain's DNS is at fault (dig +cd answers, dig does not), its administrator must repair it"
		}
	}
	return "no DNS server answers: look at /etc/resolv.conf or dns.servers, and at the network"
}

// blindness says why no server validates.
func (r *Report) blindness() string {
	for _, s := range r.Servers {
		if s.Detail != "" {
			return fmt.Sprintf("DNS server %s: %s", s.Addr, s.Detail)
		}
	}
	return "no DNS server validates"
}

func withDetail(reason, detail string) string {
	if detail == "" {
		return reason
	}
	return reason + ": " + detail
}

// some joins a few names, and says how many more there are.
func some(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
