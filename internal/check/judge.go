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
	names := certNames(leaf)
	switch {
	case h.Listed && matchesAny(names, h.Name):
	case !meets(names, sts.MX):
		p.Refused = fmt.Sprintf("the certificate is for %s, want %s", some(names), h.Name)
	case h.Listed:
		p.Note = looseOnly + "not the host's own name"
	default:
		p.Note = looseOnly + "the host is not in the policy"
	}
}

// looseOnly is about a host that only the rules of match= let through.
const looseOnly = "only Postfix before 3.10.5, or with map policy, delivers here: the certificate matches the policy, but "

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
	if p.Early() {
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
	case !p.Early():
		p.Note = "TLS fails, so mail goes there in clear, if at all"
	}
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
