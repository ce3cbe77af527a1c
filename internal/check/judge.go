package check

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
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
	var wg sync.WaitGroup
	for i := range r.Hosts[:min(len(r.Hosts), maxHosts)] {
		h := &r.Hosts[i]
		switch {
		case h.AddressErr != nil:
			h.Probe = &Probe{Err: fmt.Errorf("%w: %w", ErrNotLookedUp, h.AddressErr)}
			h.Probes = []*Probe{h.Probe}
			continue
		case len(h.Addresses) == 0:
			continue // Nobody delivers there.
		}
		wg.Go(func() {
			h.Probes = c.o.Prober.look(ctx, h.Name, h.Addresses, r.Hop.Port, c.judge(ctx, r, h))
			h.Probe = decisive(h.Probes)
		})
	}
	wg.Wait()
}

// judge returns what judges a host at each of its addresses.
func (c *Checker) judge(ctx context.Context, r *Report, h *Host) func(*Probe) {
	switch level := r.by("policy").Kind; level {
	case policy.Secure:
		return func(p *Probe) { p.judgeSTS(time.Now(), c.o.Prober.Roots, r.STS.Policy, h) }
	case policy.NotFound:
		return c.judgeDANE(ctx, r, h, policy.DANEWhereFound)
	default:
		return c.judgeDANE(ctx, r, h, level)
	}
}

// judgeSTS judges a host under a policy to enforce.
func (p *Probe) judgeSTS(now time.Time, roots *x509.CertPool, sts *policy.STSPolicy, h *Host) {
	if p.Early() {
		return
	}
	if p.Err != nil {
		p.Refused = p.Err.Error() // RFC 8461, section 4.2: no STARTTLS, no delivery.
		return
	}
	if len(p.Chain) == 0 {
		p.Refused = dane.ErrNoChain.Error()
		return
	}
	leaf := p.Chain[0]
	if err := trusted(now, roots, p.Chain); err != nil {
		p.Refused = untrusted(now, leaf, err)
		return
	}
	p.judgeNames(certNames(leaf), sts, h)
}

// judgeNames judges what a certificate that can be trusted is for.
func (p *Probe) judgeNames(names []string, sts *policy.STSPolicy, h *Host) {
	switch {
	case h.Listed && matchesAny(names, h.Name):
	case !meets(names, sts.MX) && h.Listed:
		p.Refused = fmt.Sprintf("the certificate is for %s, want %s", cmp.Or(some(names), "no name"), h.Name)
	case !meets(names, sts.MX):
		p.Refused = "the host is not in the policy, nor is what its certificate is for: " + cmp.Or(some(names), "no name")
	case h.Listed:
		p.Note = looseOnly + "not the host's own name"
	default:
		p.Note = looseOnly + "the host is not in the policy"
	}
}

// looseOnly is about a host that only the rules of match= let through.
const looseOnly = "only Postfix before 3.10.5, or with map policy, delivers here: the certificate matches the policy, but "

// judgeDANE returns what judges a host at level dane or dane-only.
func (c *Checker) judgeDANE(ctx context.Context, r *Report, h *Host, level policy.Kind) func(*Probe) {
	refuse := func(why string) func(*Probe) { return func(p *Probe) { p.Refused = why } }
	switch h.DANE {
	case policy.HostUsable.String():
	case policy.HostFailed.String(), policy.HostUnreachable.String():
		return refuse("its DANE lookup failed: " + h.Detail)
	default:
		if level == policy.DANEOnly {
			return refuse("the host has no usable DANE, and the answer is dane-only")
		}
		return (*Probe).note
	}
	base, records, err := c.o.DANE.Records(ctx, h.Name, r.Hop.Port)
	names := []string{strings.TrimSuffix(base, "."), h.Name, r.Hop.Domain.String()}
	return func(p *Probe) {
		switch {
		case p.Early():
		case p.Err != nil:
			p.Refused = p.Err.Error() // RFC 7672, section 2.2: TLSA records mean that TLS is there.
		case err != nil:
			p.Refused = err.Error()
		default:
			p.Refused = errorText(dane.Match(time.Now(), records, p.Chain, names))
		}
	}
}

// note says what comes of a host that nothing is demanded of.
func (p *Probe) note() {
	switch {
	case p.Err == nil:
		p.Note = "encrypted, not authenticated"
	case errors.Is(p.Err, ErrNoSTARTTLS):
		p.Note = "mail goes there in clear"
	case !p.Early():
		p.Note = "TLS fails, so mail goes there in clear, if at all"
	}
}

// allEncrypt reports whether every mail host was seen to speak TLS, at every
// address that was looked at.
func (r *Report) allEncrypt() bool {
	hosts := r.decisive().Hosts
	for _, h := range hosts {
		plain := func(p *Probe) bool { return p.Err != nil }
		if len(h.Probes) == 0 || slices.ContainsFunc(h.Probes, plain) {
			return false
		}
	}
	return len(hosts) > 0
}
