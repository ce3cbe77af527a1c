package mtasts

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxAddresses is how many addresses of a host are tried.
	maxAddresses = 8
	// resolutionDelay is how long to wait for the addresses of one family
	// when those of the other are there (RFC 8305, section 3): some servers
	// never answer for IPv6.
	resolutionDelay = 250 * time.Millisecond
)

// addresses looks up where host is, IPv6 and IPv4 side by side, and returns
// the allowed addresses in the order in which to try them, IPv6 and IPv4 by
// turns (RFC 8305, section 4), each once, at most maxAddresses.
func (f *fetcher) addresses(ctx context.Context, host string) ([]netip.Addr, *fetchError) {
	var (
		wg         sync.WaitGroup
		six, four  []netip.Addr
		err6, err4 error
	)
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	lookup := func(qtype uint16) ([]netip.Addr, error) {
		found, err := f.lookup(ctx, host, qtype)
		if slices.ContainsFunc(found, f.filter.allows) {
			time.AfterFunc(resolutionDelay, enough)
		}
		return found, err
	}
	wg.Go(func() { six, err6 = lookup(dns.TypeAAAA) })
	wg.Go(func() { four, err4 = lookup(dns.TypeA) })
	wg.Wait()
	if len(six)+len(four) == 0 {
		return nil, noAddress(host, err6, err4)
	}
	allowed, refused := f.filter.split(six, four)
	traceOf(ctx).addresses(allowed, refused)
	if len(allowed) == 0 {
		return nil, &fetchError{result: resultAddress,
			reason: oneLine(fmt.Sprintf("no address of %s is allowed: %s", host, strings.Join(refused, ", ")))}
	}
	return allowed, nil
}

// lookup asks for the addresses of one family.
func (f *fetcher) lookup(ctx context.Context, host string, qtype uint16) ([]netip.Addr, error) {
	answer, err := f.dns.Query(ctx, host+".", qtype)
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, rr := range answer.Records {
		var addr netip.Addr
		var ok bool
		switch rr := rr.(type) {
		case *dns.A:
			addr, ok = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			addr, ok = netip.AddrFromSlice(rr.AAAA)
		}
		if ok {
			all = append(all, addr.Unmap())
		}
	}
	return all, nil
}

// noAddress says why there is no address: the lookups failed, or found none.
func noAddress(host string, err6, err4 error) *fetchError {
	switch {
	case err4 != nil:
		return failure(resultDNS, "looking up the address of "+host, err4)
	case err6 != nil:
		return failure(resultDNS, "looking up the IPv6 address of "+host, err6)
	default:
		return &fetchError{result: resultDNS, reason: host + " has no address"}
	}
}

// split puts the allowed addresses of both families in the order in which to
// try them, and says of the refused ones why.
func (f addressFilter) split(six, four []netip.Addr) (allowed []netip.Addr, refused []string) {
	seen := make(map[netip.Addr]bool)
	for i := range max(len(six), len(four)) {
		for _, family := range [2][]netip.Addr{six, four} {
			if i >= len(family) || seen[family[i]] || len(allowed) == maxAddresses {
				continue
			}
			addr := family[i]
			seen[addr] = true
			if why := f.refuse(addr); why == "" {
				allowed = append(allowed, addr)
			} else if len(refused) < maxAddresses {
				refused = append(refused, fmt.Sprintf("%s is %s", addr, why))
			}
		}
	}
	return allowed, refused
}
