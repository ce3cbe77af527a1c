// Package dane finds out which MX hosts of a next-hop are covered by DANE for
// SMTP: are the MX records signed, and what does each host's TLSA record set
// say.
//
// It does not verify certificates and does not choose among hosts: Postfix
// does both, live, for each host. It makes the fact from which
// policy.Decide tells whether DANE goes before MTA-STS. Whether an answer is
// secure is the word of a DNS server that validates; an answer of which nobody
// knows is a lookup that failed. While there is no such server DANE is off.
//
// Limits: the first 20 hosts of a next-hop by preference, then name, are
// looked at, 8 at a time, and of all next-hops together 512; the rest count as
// plain, and one stands for them. A lookup takes 30 s at most, and what is not
// known by then is a lookup that failed. A fact lives for the smallest TTL that it
// was derived from, at most an hour; one with a host that could not be reached
// lives at most a minute, one with a failed lookup at most 10 seconds, and that
// DANE is off is remembered for 5.
//
// Specifications: RFC 7672 (SMTP security via DANE), RFC 6698 and RFC 7671
// (TLSA records), RFC 7505 (null MX), RFC 5321 section 5.1 (MX lookup).
package dane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/policy"
)

const (
	maxHosts = 20
	// atOnce is how many hosts of a next-hop are looked at side by side: one
	// with many slow hosts must not keep the DNS client busy by itself.
	atOnce = 8
	// atOnceOfAll is how many hosts are looked at of all next-hops together, each
	// with two queries at most: so many next-hops with slow hosts must not do so
	// either.
	atOnceOfAll = 512
	// maxLookup is how long a lookup may take. 20 hosts whose name servers are all
	// dead take 18 s.
	maxLookup       = 30 * time.Second
	maxLife         = time.Hour
	unreachableLife = time.Minute
	failedLife      = 10 * time.Second
	// noSOALife is for a negative answer without a TTL
	// (RFC 2308, section 5: it should not be cached).
	noSOALife = 5 * time.Second
)

// offLife is how long it is remembered that DANE is off: the next test of the
// DNS servers may turn it on again.
const offLife = 5 * time.Second

// DNS answers one question, with the word of a validating resolver on whether
// the answer is secure.
type DNS interface {
	// Validating reports whether there may be such a resolver. It waits until
	// that is known, or ctx ends.
	Validating(ctx context.Context) bool
	Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error)
}

// Resolver looks up DANE facts. It is safe for concurrent use.
type Resolver struct {
	dns DNS
	// places is held by whoever looks at a host.
	places chan struct{}
}

// New returns a Resolver that asks d.
func New(d DNS) *Resolver { return &Resolver{dns: d, places: make(chan struct{}, atOnceOfAll)} }

// DANE returns the fact for hop, looked up anew. When something could not be
// looked up that prev knows, and prev is still good, it is kept until its own
// end. While no resolver validates, every next-hop counts as one without DANE.
func (r *Resolver) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	// RFC 7672, section 2.1.1: without a validating resolver there is no DANE.
	if !r.dns.Validating(ctx) {
		off := policy.Off(time.Now())
		off.Expires = off.Learned.Add(offLife)
		return off
	}
	ctx, cancel := context.WithTimeout(ctx, maxLookup)
	defer cancel()
	l := lookup{dns: r.dns, port: hop.Port, places: r.places, life: maxLife}
	next := l.mx(ctx, hop)
	now := time.Now()
	if next.MX == policy.MXSecure {
		next.Hosts = l.hosts(ctx, next.Hosts)
		next.Detail = firstDetail(next.Hosts)
		now = time.Now()
	}
	if l.failed && prev.Fresh(now) && !knowsAll(&next, &prev) {
		// The next renewal waits for three quarters of what is left.
		prev.Learned = now
		return prev
	}
	next.Learned, next.Expires = now, now.Add(l.life)
	return next
}

// knowsAll reports whether next knows all that prev does: what failed for next
// failed for prev, in the same way.
func knowsAll(next, prev *policy.DANE) bool {
	if next.MX != prev.MX {
		return false
	}
	return !slices.ContainsFunc(next.Hosts, func(h policy.MXHost) bool {
		return isUnknown(h) && !slices.ContainsFunc(prev.Hosts, func(p policy.MXHost) bool {
			return p.Name == h.Name && p.State == h.State
		})
	})
}

func isUnknown(h policy.MXHost) bool {
	return h.State == policy.HostFailed || h.State == policy.HostUnreachable
}

// firstDetail says what kept the first host from being known.
func firstDetail(hosts []policy.MXHost) string {
	for _, h := range hosts {
		if isUnknown(h) {
			return fmt.Sprintf("%s: %s", h.Name, h.Detail)
		}
	}
	return ""
}

// lookup is one lookup of a fact: it keeps what all its answers have to say
// about the life of the fact.
type lookup struct {
	dns    DNS
	port   uint16
	places chan struct{} // see Resolver

	mu     sync.Mutex // guards what follows
	life   time.Duration
	failed bool
}

// errUnknownSecurity: an answer without AD, from a server that is not known to
// validate.
var errUnknownSecurity = errors.New("the answer came from a DNS server that is not known to validate, so it may be signed or not")

// query asks, and shortens the life of the fact to that of the answer. An
// answer of which nobody knows whether it is secure is none, and neither is
// such a denial (RFC 7672, section 2.1.1: "indeterminate" is a failure).
func (l *lookup) query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error) {
	answer, err := l.dns.Query(ctx, name, qtype)
	if err != nil {
		return answer, err
	}
	if answer.Security == dnsclient.Unknown {
		return dnsclient.Answer{}, fmt.Errorf("%s %q: %w", dns.TypeToString[qtype], name, errUnknownSecurity)
	}
	life := answer.TTL
	if len(answer.Records) == 0 && life == 0 {
		life = noSOALife
	}
	l.shorten(life)
	return answer, nil
}

func (l *lookup) shorten(life time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life = min(l.life, life)
}

// degrade notes that something is not known, which may be remembered for life
// at most.
func (l *lookup) degrade(life time.Duration) {
	l.shorten(life)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = true
}

// mx finds the hosts of hop, with their states still to be looked up.
func (l *lookup) mx(ctx context.Context, hop policy.NextHop) policy.DANE {
	itself := []policy.MXHost{{Name: hop.Domain.String()}}
	if hop.SmartHost {
		return policy.DANE{MX: policy.MXSecure, Hosts: itself}
	}
	answer, err := l.query(ctx, dns.Fqdn(hop.Domain.String()), dns.TypeMX)
	switch {
	case err != nil:
		l.degrade(failedLife)
		return policy.DANE{MX: policy.MXFailed, Detail: err.Error()}
	case !answer.Exists:
		// RFC 5321, section 5.1: NXDOMAIN is an error, not an implicit MX.
		return policy.DANE{MX: policy.MXNone}
	case answer.Security != dnsclient.Secure:
		// RFC 7672, section 2.2.1: without a secure MX answer DANE is optional.
		return policy.DANE{MX: policy.MXInsecure}
	case len(answer.Records) == 0:
		// RFC 7672, section 2.2.2: the domain itself is the sole server.
		return policy.DANE{MX: policy.MXSecure, Hosts: itself}
	}
	hosts := hostsOf(answer.Records)
	if len(hosts) == 0 {
		return policy.DANE{MX: policy.MXNone}
	}
	return policy.DANE{MX: policy.MXSecure, Hosts: hosts}
}

// hostsOf returns the hosts of an MX record set in the order in which they are
// looked at, each once with its best preference. RFC 7505, section 3: the name
// "." is not a host.
func hostsOf(records []dns.RR) []policy.MXHost {
	var hosts []policy.MXHost
	for _, rr := range records {
		mx, ok := rr.(*dns.MX)
		if !ok || mx.Mx == "." {
			continue
		}
		name := strings.ToLower(strings.TrimSuffix(mx.Mx, "."))
		hosts = append(hosts, policy.MXHost{Name: name, Preference: mx.Preference})
	}
	slices.SortFunc(hosts, func(a, b policy.MXHost) int {
		if a.Preference != b.Preference {
			return int(a.Preference) - int(b.Preference)
		}
		return strings.Compare(a.Name, b.Name)
	})
	seen := make(map[string]bool, len(hosts))
	return slices.DeleteFunc(hosts, func(h policy.MXHost) bool {
		again := seen[h.Name]
		seen[h.Name] = true
		return again
	})
}

// hosts looks at all hosts, some side by side, and leaves out those without
// address. Of those that are not looked at, the first stands for all: they are
// all alike, and none has a better preference.
func (l *lookup) hosts(ctx context.Context, hosts []policy.MXHost) []policy.MXHost {
	hosts = hosts[:min(len(hosts), maxHosts+1)]
	absent := make([]bool, len(hosts))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range hosts {
		if i >= maxHosts {
			hosts[i].State, hosts[i].Detail = policy.HostPlain, fmt.Sprintf("only the first %d hosts are looked at", maxHosts)
			continue
		}
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			state, err := l.hostInTurn(ctx, hosts[i].Name)
			if errors.Is(err, errNoAddress) {
				absent[i] = true
				return
			}
			hosts[i].State = state
			if err != nil {
				hosts[i].Detail = err.Error()
			}
		})
	}
	wg.Wait()
	left := make([]policy.MXHost, 0, len(hosts))
	for i, h := range hosts {
		if !absent[i] {
			left = append(left, h)
		}
	}
	return left
}

// errNoAddress: the DNS says that the host has no address, so no mail can be
// sent to it.
var errNoAddress = errors.New("no address")

// hostInTurn does what host does when there is a place for it.
func (l *lookup) hostInTurn(ctx context.Context, name string) (policy.HostState, error) {
	select {
	case l.places <- struct{}{}:
	case <-ctx.Done():
		l.degrade(failedLife)
		return policy.HostFailed, fmt.Errorf("wait for the lookups of other hosts: %w", ctx.Err())
	}
	defer func() { <-l.places }()
	return l.host(ctx, name)
}

// host finds the state of one host. The error says why it is failed or
// unreachable, or that it is no host at all.
func (l *lookup) host(ctx context.Context, name string) (policy.HostState, error) {
	if _, err := netip.ParseAddr(name); err == nil {
		return policy.HostPlain, nil // RFC 7672, section 2.2: a name is needed
	}
	// RFC 7672, section 2.2.2: addresses before TLSA records.
	address, err := l.address(ctx, name)
	switch {
	case errors.Is(err, errNoAddress):
		return policy.HostPlain, err
	case err != nil:
		l.degrade(unreachableLife)
		return policy.HostUnreachable, err
	}
	bases, err := l.bases(ctx, name, address)
	if err != nil {
		l.degrade(failedLife)
		return policy.HostFailed, err
	}
	for _, base := range bases {
		state, err := l.tlsa(ctx, base)
		if err != nil {
			l.degrade(failedLife)
			return policy.HostFailed, err
		}
		if state != policy.HostPlain {
			return state, nil
		}
	}
	return policy.HostPlain, nil
}
