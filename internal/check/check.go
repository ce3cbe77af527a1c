// Package check finds out, live and step by step, what becomes of mail to a
// next-hop, and says it to people: the verdict first, then why, then every step
// that led there.
//
// It has no rule of its own about what is secure: facts come from the packages
// that the daemon asks, the verdict from [policy.Decide], and the answers from
// package policymap. What it adds are the words, a look at Postfix's settings,
// and, on request, a look at the mail hosts themselves (see [Prober]).
//
// Nothing is remembered and no daemon is needed. Text that a domain publishes is
// shown, with everything but printable characters replaced.
//
// Limits: what the packages below say for a lookup and a fetch; 5 s for Postfix's
// settings, for the daemon's view, and to see whether anybody listens where Postfix
// asks; 20 mail hosts, 30 s for each.
//
// Specifications: RFC 8461 (sections 3 to 5), RFC 7672 (sections 2 and 3), and
// postconf(5) of Postfix for what its settings do.
package check

import (
	"context"
	"sync"
	"time"

	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap/policymap"
)

// STS finds out about MTA-STS: a [mtasts.Resolver].
type STS interface {
	Look(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS
	Fetch(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS
}

// DANE finds out about mail hosts and their TLSA records: a [dane.Resolver].
type DANE interface {
	DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE
	Hosts(ctx context.Context, hop policy.NextHop) ([]policy.MXHost, error)
	Records(ctx context.Context, host string, port uint16) (base string, records []dane.Record, err error)
}

// Servers are the DNS servers: a [dnsclient.Client].
type Servers interface {
	Validating(ctx context.Context) bool
	Servers() []dnsclient.ServerStatus
}

// Options are what a Checker works with. STS, DANE, DNS and Servers are needed.
type Options struct {
	STS  STS
	DANE DANE
	// DNS is the recorder through which STS and DANE ask.
	DNS     *dnstrace.Recorder
	Servers Servers
	// NoDANE says that the configuration turns DANE off.
	NoDANE bool
	// Prober looks at the mail hosts; nil means that nobody does.
	Prober *Prober
	// Postconf reads Postfix's settings; nil means that nobody does.
	Postconf Postconf
	// Dial connects to where Postfix asks, to see whether anybody listens there;
	// nil means that nobody looks.
	Dial dialer
	// ReadFile reads the file of authorities that Postfix has; nil means that
	// nobody looks.
	ReadFile func(name string) ([]byte, error)
	// Listen are the addresses of the daemon, as the configuration writes
	// them.
	Listen []string
	// Daemon shows what a running daemon knows; nil means that nobody asks.
	Daemon Daemon
}

// Checker looks at next-hops. It is good for one of them, since its recorder is.
type Checker struct{ o Options }

// New returns a checker.
func New(o Options) *Checker { return &Checker{o} }

// sideTimeout is how long Postfix's settings and the daemon's view may take.
const sideTimeout = 5 * time.Second

// Run looks at everything and returns what it found. key is the next-hop as
// Postfix's transport writes it.
func (c *Checker) Run(ctx context.Context, key string, hop policy.NextHop) *Report {
	r := &Report{Key: key, Hop: hop, Asked: time.Now()}
	// The first answers need to know which servers validate.
	validating := c.o.Servers.Validating(ctx)
	r.Servers = c.o.Servers.Servers()
	r.Blind = !validating && !c.o.NoDANE
	var wg sync.WaitGroup
	wg.Go(func() { c.sts(ctx, r) })
	wg.Go(func() { c.dane(ctx, r) })
	wg.Go(func() { c.postfix(ctx, r) })
	wg.Go(func() { c.daemon(ctx, r) })
	wg.Wait()
	at := r.place(c.o.Listen)
	r.listen = at.listen
	if r.Postfix != nil && r.Postfix.Err == nil {
		r.Postfix.look(at)
	}
	broken := c.broken(ctx, r.Postfix)
	r.answer()
	c.hosts(ctx, r)
	r.recall()
	c.probe(ctx, r)
	r.DNS = c.o.DNS.Steps()
	r.conclude()
	r.Conclusion.Here = append(broken, r.Conclusion.Here...)
	return r
}

// sts looks at the record, and fetches the policy if there is one.
func (c *Checker) sts(ctx context.Context, r *Report) {
	r.STS = c.o.STS.Look(ctx, r.Hop.Domain, policy.STS{})
	if r.STS.Wanted == "" {
		return
	}
	started := time.Now()
	r.Fetch = &Fetch{URL: mtasts.PolicyURL(r.Hop.Domain)}
	r.STS = c.o.STS.Fetch(mtasts.WithTrace(ctx, r.Fetch.trace()), r.Hop.Domain, r.STS)
	r.Fetch.mu.Lock() // attempts that lost the race may still be ending
	defer r.Fetch.mu.Unlock()
	r.Fetch.Took = time.Since(started)
	if r.Fetch.Text != "" {
		_, r.Fetch.Findings = mtasts.CheckPolicy(r.Fetch.Text)
	}
}

// dane looks at the mail hosts.
func (c *Checker) dane(ctx context.Context, r *Report) {
	if c.o.NoDANE {
		r.DANE = policy.Off(time.Now())
	} else {
		r.DANE = c.o.DANE.DANE(ctx, r.Hop, policy.DANE{})
	}
	r.MX, r.MXErr = c.o.DANE.Hosts(ctx, r.Hop)
}

// mapNames are the maps whose answers are shown.
var mapNames = [...]string{"policy", "policy-tlsrpt", "policy-dane", "policy-dane-tlsrpt", "postfix"}

// answer draws the verdicts, as the daemon would without a memory.
func (r *Report) answer() {
	r.Answers = nil
	for _, name := range mapNames {
		m, _ := policymap.FindMap(name)
		v := policy.Decide(r.Asked, r.Hop.Domain, &r.STS, &r.DANE, m.Class)
		r.Answers = append(r.Answers, Answer{Map: name, Verdict: v, Reply: policymap.Render(v, m)})
	}
}

// hosts compares the mail hosts with the policy and with the DANE fact.
func (c *Checker) hosts(ctx context.Context, r *Report) {
	states := make(map[string]policy.MXHost, len(r.DANE.Hosts))
	for _, h := range r.DANE.Hosts {
		states[h.Name] = h
	}
	for _, mx := range r.MX {
		h := Host{Name: mx.Name, Preference: mx.Preference}
		if known, ok := states[mx.Name]; ok {
			h.DANE, h.Detail = known.State.String(), known.Detail
		}
		r.Hosts = append(r.Hosts, h)
	}
	r.list()
	var wg sync.WaitGroup
	for i := range r.Hosts[:min(len(r.Hosts), maxHosts)] {
		h := &r.Hosts[i]
		wg.Go(func() { h.Addresses, h.AddressErr = c.o.DNS.Addresses(ctx, h.Name) })
	}
	wg.Wait()
}

// maxHosts is how many mail hosts are looked at closely.
const maxHosts = 20

// list finds the pattern of the policy that allows each host.
func (r *Report) list() {
	if r.STS.Policy == nil {
		return
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		h.Listed, h.Pattern = false, ""
		for _, pattern := range r.STS.Policy.MX {
			if !h.Listed && pattern.Matches(h.Name) {
				h.Listed, h.Pattern = true, pattern.String()
			}
		}
	}
}
