package mtasts

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/policy"
)

// DNS answers one question. That there is no record is an answer; an error
// means that nothing is known.
type DNS interface {
	Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error)
}

// Metrics counts what a [Resolver] does. Its methods must not block.
type Metrics interface {
	// Fetched counts a fetch that ended with result: ok, dns, address,
	// connect, tls, status, type, size, timeout, syntax or busy.
	Fetched(result string)
}

// Options says how a [Resolver] works.
type Options struct {
	// DNS finds TXT records and the addresses of policy hosts; required.
	DNS DNS
	// Recheck is the least time between two looks at a domain with a policy
	// in force, and between two fetches for a domain; 60 s when zero. Below a
	// minute it also takes the place of the five minutes after a failure,
	// which is for tests.
	Recheck time.Duration
	// Refresh is the most time between two fetches of a policy; 24 h when
	// zero.
	Refresh time.Duration
	// FetchTimeout bounds a fetch from its first question to the DNS to the
	// last byte; 60 s when zero.
	FetchTimeout time.Duration
	// CAFile holds the root certificates in PEM; when empty, those of the
	// system are used.
	CAFile string
	// AllowNetworks are allowed for policy hosts in addition to the public
	// Internet; none when empty.
	AllowNetworks []netip.Prefix
	// Proxy is an HTTP proxy, as http://host:port, that policies are fetched
	// through with CONNECT; nil means no proxy. The environment is not looked
	// at.
	Proxy *url.URL
	// Dial opens a TCP connection to an address and port (or to the proxy);
	// nil means that of [net.Dialer]. It must end when ctx does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// UserAgent names the program to policy hosts; "tlspolicyd" when empty.
	UserAgent string
	// Log may be nil.
	Log *zap.Logger
	// Metrics may be nil.
	Metrics Metrics
}

// Resolver looks at TXT records and fetches policies. It is safe for
// concurrent use.
type Resolver struct {
	dns     DNS
	rules   rules
	fetcher *fetcher
	log     *zap.Logger
	metrics Metrics
}

// New returns a resolver. It fails if an option makes no sense or the root
// certificates of Options.CAFile cannot be read. That the system has no root
// certificates is an error in the log only: policies that are known stay in
// force without any.
func New(o Options) (*Resolver, error) {
	if o.DNS == nil {
		return nil, errors.New("mtasts: no DNS")
	}
	o = withDefaults(o)
	fetcher, err := newFetcher(o)
	if err != nil {
		return nil, fmt.Errorf("mtasts: %w", err)
	}
	return &Resolver{
		dns:     o.DNS,
		rules:   rules{recheck: o.Recheck, refresh: o.Refresh},
		fetcher: fetcher,
		log:     o.Log,
		metrics: o.Metrics,
	}, nil
}

func withDefaults(o Options) Options {
	if o.Recheck <= 0 {
		o.Recheck = time.Minute
	}
	if o.Refresh <= 0 {
		o.Refresh = 24 * time.Hour
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = time.Minute
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.UserAgent == "" {
		o.UserAgent = "tlspolicyd"
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
	return o
}

type noMetrics struct{}

func (noMetrics) Fetched(string) {}

// ReloadRoots reads the root certificates again. After an error the old ones
// stay in use.
func (r *Resolver) ReloadRoots() error {
	return r.fetcher.roots.reload(time.Now())
}

// Look asks for the TXT record of domain and returns the fact that follows
// from it and prev. If the policy is to be fetched now, Wanted is set in it.
// If ctx is cancelled meanwhile, prev comes back unchanged.
func (r *Resolver) Look(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	outcome := r.look(ctx, domain)
	if outcome.state == policy.RecordFailed && cancelled(ctx) {
		return prev
	}
	next := r.rules.afterLook(time.Now(), prev, outcome)
	r.log.Debug("looked at the TXT record",
		zap.Stringer("domain", domain), zap.Stringer("record", next.Record), zap.String("detail", next.Detail),
		zap.String("id", outcome.id), zap.String("wanted", next.Wanted), zap.Time("recheck", next.Recheck))
	return next
}

// look asks the DNS and reads what it says.
func (r *Resolver) look(ctx context.Context, domain policy.Domain) lookOutcome {
	// RFC 8461, section 3.1: the record is at _mta-sts and the domain.
	name := "_mta-sts." + domain.String() + "."
	if len(name) > maxQueryName {
		// RFC 1035, section 2.3.4: there can be no such name in the DNS.
		return lookOutcome{state: policy.RecordAbsent, ttl: maxRecheck,
			detail: "the domain is too long for a name with _mta-sts before it"}
	}
	answer, err := r.dns.Query(ctx, name, dns.TypeTXT)
	if errors.Is(err, dnsclient.ErrLoop) {
		// RFC 8461, section 3.1: aliases are followed; these lead nowhere.
		return lookOutcome{state: policy.RecordAbsent, ttl: r.rules.recheck, detail: oneLine(err.Error())}
	}
	if err != nil {
		return lookOutcome{state: policy.RecordFailed, detail: oneLine(err.Error())}
	}
	id, err := ParseRecords(texts(answer.Records))
	if err != nil {
		return lookOutcome{state: policy.RecordAbsent, ttl: answer.TTL, detail: oneLine(err.Error())}
	}
	return lookOutcome{state: policy.RecordFound, id: id, ttl: answer.TTL}
}

// maxQueryName is the length of the longest name with its final dot.
const maxQueryName = 254

// texts returns the text of each TXT record, byte for byte.
func texts(records []dns.RR) []string {
	var all []string
	for _, rr := range records {
		if txt, ok := rr.(*dns.TXT); ok {
			// RFC 8461, section 3.1: strings are joined without spaces.
			all = append(all, dnsclient.Text(txt))
		}
	}
	return all
}

// Fetch fetches the policy of domain, for prev.Wanted or, when that is empty,
// as a refresh of prev.Policy, and returns the fact that follows. A success
// replaces the policy, a failure never does. If ctx is cancelled meanwhile,
// prev comes back unchanged, and also if it neither wants a policy nor has one
// (RFC 8461, section 3.1: without a record there is no policy to fetch). If
// there was no place for the fetch, policy, failure and Wanted come back as they
// were, and what changes is when the next one is due.
func (r *Resolver) Fetch(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	if prev.Wanted == "" && prev.Policy == nil {
		return prev
	}
	started := time.Now()
	p, failed := r.fetch(ctx, domain, r.fetcher.gate(&prev))
	if failed != nil && cancelled(ctx) {
		return prev
	}
	outcome := fetchOutcome{started: started, policy: p, spread: rand.Float64()}
	result := resultOK
	if failed != nil {
		result = failed.result
		outcome.kind, outcome.reason = failed.result, failed.reason
	}
	r.metrics.Fetched(result)
	next := r.rules.afterFetch(time.Now(), prev, outcome)
	r.log.Debug("fetched the policy",
		zap.Stringer("domain", domain), zap.String("wanted", prev.Wanted), zap.String("result", result),
		zap.String("reason", outcome.reason), zap.Duration("took", time.Since(started)))
	return next
}

func (r *Resolver) fetch(ctx context.Context, domain policy.Domain, g *gate) (*policy.STSPolicy, *fetchError) {
	text, failed := r.fetcher.fetch(ctx, domain, g)
	if failed != nil {
		return nil, failed
	}
	traceOf(ctx).text(text)
	p, err := ParsePolicy(text)
	if err != nil {
		return nil, &fetchError{result: resultSyntax, reason: oneLine(err.Error())}
	}
	return p, nil
}

// cancelled reports whether ctx ended because nobody wants the outcome any
// more, rather than because the time is over.
func cancelled(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.Canceled)
}
