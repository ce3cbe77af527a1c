package dnsclient

import (
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxLinks is how many aliases a chain may have.
const maxLinks = 8

// chain is what is known so far of a question: the aliases from the name that
// was asked for to the one to be asked for next, and in the end the answer.
// It is a value: what a bad message adds is dropped with the copy.
type chain struct {
	// name is the end of the chain.
	name  string
	qtype uint16
	// passed are the names before it.
	passed   []string
	security Security
	// ttl is the smallest so far, in seconds.
	ttl uint32

	done   bool
	answer Answer
}

func newChain(name string, qtype uint16) chain {
	return chain{name: name, qtype: qtype, security: Secure, ttl: math.MaxInt32}
}

// question is what to ask for next.
func (c chain) question() dns.Question {
	return dns.Question{Name: c.name, Qtype: c.qtype, Qclass: dns.ClassINET}
}

// add reads the answer to the chain's question, of which security is known. The
// chain that it returns is done, or has at least one more link. Records of
// other names than those of the chain are not looked at: nobody asked for them.
func (c chain) add(m *dns.Msg, security Security) (chain, error) {
	// RFC 7672, section 2.1.3: a chain is as secure as its weakest link.
	c.security = min(c.security, security)
	before := len(c.passed)
	for {
		records, err := c.records(m.Answer, c.qtype)
		if err != nil {
			return c, err
		}
		if len(records) > 0 {
			return c.found(m, records)
		}
		aliases, err := c.records(m.Answer, dns.TypeCNAME)
		if err != nil {
			return c, err
		}
		if len(aliases) == 0 {
			return c.notFound(m, len(c.passed) > before)
		}
		if err := c.step(aliases); err != nil {
			return c, err
		}
	}
}

// found ends the chain with records.
func (c chain) found(m *dns.Msg, records []dns.RR) (chain, error) {
	if m.Rcode == dns.RcodeNameError {
		return c, causef(KindMalformed, "NXDOMAIN with records of %q", c.name)
	}
	c.lower(records)
	return c.end(Answer{Records: records, Exists: true}), nil
}

// notFound ends the chain without records, if the message says that there are
// none. One that stops at an alias says nothing of its target.
func (c chain) notFound(m *dns.Msg, moved bool) (chain, error) {
	soa := c.authority(m.Ns)
	switch {
	case m.Rcode == dns.RcodeNameError: // RFC 6604, section 3: at the end of the chain.
	case len(soa) > 0: // RFC 2308, section 2.2: NODATA.
	case moved:
		return c, nil
	case hasType(m.Ns, dns.TypeNS):
		return c, causef(KindLame, "the server refers to others")
	}
	// RFC 2308, section 5: without a SOA, a denial is not to be cached.
	if len(soa) == 0 {
		c.ttl = 0
	}
	for _, rr := range soa {
		c.ttl = min(c.ttl, ttl(rr), rr.Minttl)
	}
	return c.end(Answer{Exists: m.Rcode != dns.RcodeNameError}), nil
}

// end fills in what every answer has.
func (c chain) end(a Answer) chain {
	a.Name, a.Security, a.TTL = c.name, c.security, time.Duration(c.ttl)*time.Second
	c.done, c.answer = true, a
	return c
}

// step follows an alias.
func (c *chain) step(aliases []dns.RR) error {
	// RFC 2181, section 10.1: a name has one canonical name at most.
	if len(aliases) > 1 {
		return causef(KindMalformed, "%q is an alias of several names", c.name)
	}
	c.lower(aliases)
	target := strings.ToLower(aliases[0].(*dns.CNAME).Target)
	c.passed = append(slices.Clone(c.passed), c.name)
	if slices.Contains(c.passed, target) {
		return causef(KindLoop, "%w: %q points back to %q", ErrLoop, c.name, target)
	}
	if len(c.passed) > maxLinks {
		return causef(KindLoop, "more than %d aliases in a row", maxLinks)
	}
	c.name = target
	return nil
}

// lower takes the TTLs of records into account.
func (c *chain) lower(records []dns.RR) {
	for _, rr := range records {
		c.ttl = min(c.ttl, ttl(rr))
	}
}

// records returns the records of a type at the end of the chain, each once.
// A duplicate counts by its TTL only.
func (c *chain) records(section []dns.RR, rrtype uint16) ([]dns.RR, error) {
	var records []dns.RR
	seen := make(map[string]dns.RR)
	for _, rr := range section {
		h := rr.Header()
		if h.Rrtype != rrtype || h.Class != dns.ClassINET || !strings.EqualFold(h.Name, c.name) {
			continue
		}
		if !complete(rr) {
			return nil, causef(KindMalformed, "incomplete %s record of %q", typeName(rrtype), c.name)
		}
		key := data(rr)
		if first := seen[key]; first != nil {
			first.Header().Ttl = min(ttl(first), ttl(rr))
			continue
		}
		seen[key] = rr
		records = append(records, rr)
	}
	return records, nil
}

// authority returns the SOA records of zones that the end of the chain lies
// in.
func (c *chain) authority(section []dns.RR) []*dns.SOA {
	var soa []*dns.SOA
	for _, rr := range section {
		if s, ok := rr.(*dns.SOA); ok && s.Hdr.Class == dns.ClassINET && dns.IsSubDomain(s.Hdr.Name, c.name) {
			soa = append(soa, s)
		}
	}
	return soa
}

func hasType(section []dns.RR, rrtype uint16) bool {
	return slices.ContainsFunc(section, func(rr dns.RR) bool { return rr.Header().Rrtype == rrtype })
}

// ttl returns the TTL of a record, in seconds.
func ttl(rr dns.RR) uint32 {
	t := rr.Header().Ttl
	if t > math.MaxInt32 { // RFC 2181, section 8.
		return 0
	}
	return t
}

// complete reports whether a record has all its fields: those at its end may
// be missing without an error from the parser.
func complete(rr dns.RR) bool {
	switch r := rr.(type) {
	case *dns.A:
		return r.A.To4() != nil
	case *dns.AAAA:
		return len(r.AAAA) == net.IPv6len
	case *dns.CNAME:
		return r.Target != ""
	case *dns.MX:
		return r.Mx != ""
	case *dns.TXT:
		return len(r.Txt) > 0
	default:
		return true
	}
}

// data returns the text of a record's data, equal for equal records. Names in
// it do not depend on case.
func data(rr dns.RR) string {
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	switch rr.(type) {
	case *dns.CNAME, *dns.MX, *dns.NS, *dns.PTR, *dns.SRV:
		return strings.ToLower(text)
	default:
		return text
	}
}
