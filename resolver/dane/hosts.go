package dane

import (
	"context"
	"fmt"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/policy"
)

// Hosts returns the hosts that take mail for hop, in the order in which they
// are tried, whether DANE applies to them or not: their states are not looked
// up. None means that the domain does not exist or takes no mail (RFC 7505).
func (r *Resolver) Hosts(ctx context.Context, hop policy.NextHop) ([]policy.MXHost, error) {
	itself := []policy.MXHost{{Name: hop.Domain.String()}}
	if hop.SmartHost {
		return itself, nil
	}
	answer, err := r.dns.Query(ctx, dns.Fqdn(hop.Domain.String()), dns.TypeMX)
	switch {
	case err != nil:
		return nil, fmt.Errorf("MX lookup failed: %w", err)
	case !answer.Exists:
		return nil, nil
	case len(answer.Records) == 0:
		return itself, nil // RFC 5321, section 5.1: the implicit MX.
	default:
		return hostsOf(answer.Records), nil
	}
}

// Record is a TLSA record.
type Record struct {
	Usage, Selector, MatchingType uint8
	// Data is in hexadecimal, as in a zone file.
	Data string
	// Usable says whether a certificate can be matched against the record.
	Usable bool
}

// String returns the record as in a zone file.
func (r Record) String() string {
	return fmt.Sprintf("%d %d %d %s", r.Usage, r.Selector, r.MatchingType, r.Data)
}

// Records returns the TLSA records of a host at a port that Postfix verifies
// against: the secure ones of the first base domain that has any (RFC 7672,
// section 2.2.2), and that base domain. None means that there are none.
func (r *Resolver) Records(ctx context.Context, host string, port uint16) (base string, records []Record, err error) {
	l := lookup{dns: r.dns, port: port, life: maxLife}
	a, err := l.address(ctx, host)
	if err != nil {
		return "", nil, err
	}
	bases, err := l.bases(ctx, host, a)
	if err != nil || port == 0 {
		return "", nil, err
	}
	for _, base := range bases {
		answer, err := l.query(ctx, fmt.Sprintf("_%d._tcp.%s", port, base), dns.TypeTLSA)
		if err != nil {
			return "", nil, fmt.Errorf("TLSA lookup failed: %w", err)
		}
		if answer.Security == dnsclient.Secure && len(answer.Records) > 0 {
			return base, recordsOf(answer.Records), nil
		}
	}
	return "", nil, nil
}

func recordsOf(answer []dns.RR) []Record {
	var records []Record
	for _, rr := range answer {
		if r, ok := rr.(*dns.TLSA); ok {
			records = append(records, Record{r.Usage, r.Selector, r.MatchingType, r.Certificate, usable(r)})
		}
	}
	return records
}
