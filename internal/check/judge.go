package check

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/policy"
)

// probe looks at the first mail hosts, all at the same time, and judges what
// they show as Postfix would under the answer of map policy, or, where that
// says nothing, under DANE.
func (c *Checker) probe(ctx context.Context, r *Report) {
	if c.o.Prober == nil || r.Hop.Port == 0 {
		return
	}
	r = r.decisive()
	level := r.by("policy").Kind
	if level == policy.NotFound {
		level = policy.DANEWhereFound
	}
	var wg sync.WaitGroup
	for i := range r.Hosts[:min(len(r.Hosts), maxHosts)] {
		h := &r.Hosts[i]
		wg.Go(func() {
			h.Probe = c.o.Prober.look(ctx, h.Name, h.Addresses, r.Hop.Port)
			if level == policy.Secure {
				h.Probe.judgeSTS(time.Now(), c.o.Prober.Roots, r.STS.Policy, h)
				return
			}
			c.judgeDANE(ctx, r, h, level)
		})
	}
	wg.Wait()
}

// judgeSTS judges a host under a policy to enforce.
func (p *Probe) judgeSTS(now time.Time, roots *x509.CertPool, sts *policy.STSPolicy, h *Host) {
	if p.Err != nil {
		p.Refused = p.Err.Error() // RFC 8461, section 4.2: no STARTTLS, no delivery.
		return
	}
	if len(p.Chain) == 0 {
		p.Refused = dane.ErrNoChain.Error()
		return
	}
	if err := trusted(now, roots, p.Chain); err != nil {
		p.Refused = untrusted(now, p.Chain[0], err)
		return
	}
	names := certNames(p.Chain[0])
	exact, loose := h.Listed && matchesAny(names, h.Name), false
	for _, pattern := range sts.MX {
		loose = loose || matchesPattern(names, pattern)
	}
	switch {
	case exact && loose:
	case loose:
		p.Note = "only Postfix before 3.10.5, or with map policy, delivers here: the certificate matches the policy, but "
		if h.Listed {
			p.Note += "not the host's own name"
		} else {
			p.Note += "the host is not in the policy"
		}
	case exact:
		p.Note = "only Postfix from 3.10.5 on, with map policy-tlsrpt, delivers here: the certificate names the host, but nothing that the policy lists"
	default:
		p.Refused = fmt.Sprintf("the certificate is for %s, want %s", some(names), h.Name)
	}
}

// trusted verifies the chain, without a look at names.
func trusted(now time.Time, roots *x509.CertPool, chain []*x509.Certificate) error {
	others := x509.NewCertPool()
	for _, cert := range chain[1:] {
		others.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// untrusted says for people why a certificate is not trusted.
func untrusted(now time.Time, cert *x509.Certificate, err error) string {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case isInvalid && invalid.Reason == x509.Expired && now.Before(cert.NotBefore):
		return "the certificate is not valid before " + stamp(cert.NotBefore)
	case isInvalid && invalid.Reason == x509.Expired && now.After(cert.NotAfter):
		return "the certificate has expired on " + stamp(cert.NotAfter)
	case isUnknown && cert.Issuer.String() == cert.Subject.String():
		return "the certificate is signed by nobody but its holder"
	case isUnknown:
		return fmt.Sprintf("the certificate is not signed by a known authority (issuer %q), or an intermediate certificate is missing", cert.Issuer)
	default:
		return "the certificate cannot be trusted: " + err.Error()
	}
}

// certNames returns the names that Postfix looks at: those of the extension, or,
// if it has none, the common name.
func certNames(cert *x509.Certificate) []string {
	if len(cert.DNSNames) > 0 {
		return cert.DNSNames
	}
	if cert.Subject.CommonName != "" {
		return []string{cert.Subject.CommonName}
	}
	return nil
}

// matchesAny reports whether one of the names in a certificate is for host. A
// wildcard stands for one label, as with tls_wildcard_matches_multiple_labels
// off, and as with the first label of a host.
func matchesAny(names []string, host string) bool {
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name == host {
			return true
		}
		_, parent, _ := strings.Cut(host, ".")
		if rest, wildcard := strings.CutPrefix(name, "*."); wildcard && rest == parent && rest != "" {
			return true
		}
	}
	return false
}

// matchesPattern reports whether one of the names meets match=: a host, or with
// a dot before it any name below a domain, at any depth.
func matchesPattern(names []string, pattern policy.MXPattern) bool {
	suffix, wildcard := pattern.Suffix()
	if !wildcard {
		return matchesAny(names, pattern.String())
	}
	for _, name := range names {
		if name = strings.ToLower(name); len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// judgeDANE judges a host at level dane or dane-only.
func (c *Checker) judgeDANE(ctx context.Context, r *Report, h *Host, level policy.Kind) {
	p := h.Probe
	switch h.DANE {
	case policy.HostUsable.String():
	case policy.HostFailed.String(), policy.HostUnreachable.String():
		p.Refused = "its DANE lookup failed: " + h.Detail
		return
	default:
		if level == policy.DANEOnly {
			p.Refused = "the host has no usable DANE, and the answer is dane-only"
		} else {
			p.note()
		}
		return
	}
	if p.Err != nil {
		p.Refused = p.Err.Error() // RFC 7672, section 2.2: TLSA records mean that TLS is there.
		return
	}
	base, records, err := c.o.DANE.Records(ctx, h.Name, r.Hop.Port)
	if err != nil {
		p.Refused = err.Error()
		return
	}
	names := []string{strings.TrimSuffix(base, "."), h.Name, r.Hop.Domain.String()}
	if err := dane.Match(time.Now(), records, p.Chain, names); err != nil {
		p.Refused = err.Error()
	}
}

// note says what comes of a host that nothing is demanded of.
func (p *Probe) note() {
	switch {
	case p.Err == nil:
		p.Note = "encrypted, not authenticated"
	case errors.Is(p.Err, ErrNoSTARTTLS):
		p.Note = "mail goes there in clear"
	}
}

// overruleByProbes corrects the conclusion by what the hosts showed.
func (r *Report) overruleByProbes(c *Conclusion) {
	var probed, passed, reached int
	why := ""
	for _, h := range r.Hosts {
		if h.Probe == nil {
			continue
		}
		probed++
		if h.Probe.Target != "" {
			reached++
		}
		if h.Probe.Refused == "" {
			passed++
		} else if why == "" {
			why = h.Name + ": " + h.Probe.Refused
		}
	}
	if probed == 0 || c.Outcome != Authenticated && c.Outcome != Deferred {
		return
	}
	switch {
	case reached == 0:
		c.Outcome, c.Summary = Unknown, "no mail host can be reached from here, so mail waits"
		c.Because = append([]string{why}, c.Because...)
		c.Remedy = "if others reach them, the way out to port " + fmt.Sprint(r.Hop.Port) + " is closed here"
	case passed == 0:
		c.Summary = "mail is deferred: no mail host meets " + r.demand()
		c.Outcome = Deferred
		c.Because = append([]string{why}, c.Because...)
		c.Remedy = "the domain's administrator: repair the certificates, or the policy; until then, the exception below lets mail out"
	case passed < probed:
		c.Because = append([]string{fmt.Sprintf("%d of %d mail hosts get no mail; %s", probed-passed, probed, why)}, c.Because...)
	default:
		c.rehabilitate()
	}
}

// rehabilitate takes back what was said before the hosts were looked at.
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

// allEncrypt reports whether every mail host was seen to speak TLS.
func (r *Report) allEncrypt() bool {
	hosts := r.decisive().Hosts
	for _, h := range hosts {
		if h.Probe == nil || h.Probe.Err != nil {
			return false
		}
	}
	return len(hosts) > 0
}
