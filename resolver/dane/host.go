package dane

import (
	"context"
	"fmt"
	"sync"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/policy"
)

// address is what the address lookups of a host say together.
type address struct {
	// secure says that every answer with records was secure.
	secure bool
	// name is the end of the CNAME chain.
	name string
}

// address looks up A and AAAA side by side. The error wraps errNoAddress if
// both say that there is none, and is another if one failed and the other
// gave none.
func (l *lookup) address(ctx context.Context, name string) (address, error) {
	types := [...]uint16{dns.TypeA, dns.TypeAAAA}
	var answers [len(types)]dnsclient.Answer
	var errs [len(types)]error
	var wg sync.WaitGroup
	for i, t := range types {
		wg.Go(func() { answers[i], errs[i] = l.query(ctx, dns.Fqdn(name), t) })
	}
	wg.Wait()
	found := address{secure: true}
	for i := range types {
		if errs[i] != nil || len(answers[i].Records) == 0 {
			continue
		}
		found.name = answers[i].Name
		found.secure = found.secure && answers[i].Security == dnsclient.Secure
	}
	if found.name != "" {
		return found, nil
	}
	for i, err := range errs {
		if err != nil {
			return address{}, fmt.Errorf("%s lookup failed: %w", dns.TypeToString[types[i]], err)
		}
	}
	return address{}, errNoAddress
}

// bases returns the TLSA base domains to try, in order (RFC 7672, section
// 2.2.2): of a secure chain of aliases its end, then the name itself; of an
// insecure one the name itself if the first alias is secure; none where DANE
// does not apply.
func (l *lookup) bases(ctx context.Context, name string, a address) ([]string, error) {
	original := dns.Fqdn(name)
	alias := a.name != original
	switch {
	case a.secure && alias:
		return []string{a.name, original}, nil
	case a.secure:
		return []string{original}, nil
	case !alias:
		return nil, nil
	}
	cname, err := l.query(ctx, original, dns.TypeCNAME)
	if err != nil {
		return nil, fmt.Errorf("CNAME lookup failed: %w", err)
	}
	if cname.Security == dnsclient.Secure && len(cname.Records) > 0 {
		return []string{original}, nil
	}
	return nil, nil
}

// tlsa looks up the TLSA records of one base domain. Plain means that there
// are no secure ones, whatever else there is.
func (l *lookup) tlsa(ctx context.Context, base string) (policy.HostState, error) {
	owner := fmt.Sprintf("_%d._tcp.%s", l.port, base)
	if _, valid := dns.IsDomainName(owner); !valid || l.port == 0 {
		return policy.HostPlain, nil
	}
	answer, err := l.query(ctx, owner, dns.TypeTLSA)
	if err != nil {
		return policy.HostFailed, fmt.Errorf("TLSA lookup failed: %w", err)
	}
	if answer.Security != dnsclient.Secure || len(answer.Records) == 0 {
		return policy.HostPlain, nil
	}
	for _, rr := range answer.Records {
		if record, ok := rr.(*dns.TLSA); ok && usable(record) {
			return policy.HostUsable, nil
		}
	}
	return policy.HostUnusable, nil
}
