package dnstest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxChain is how many aliases the server follows.
const maxChain = 16

// world is a set of zones. It is never changed after it was made.
type world struct {
	// nodes are the names that exist, with their records by type; an empty
	// non-terminal has none.
	nodes map[string]map[uint16][]dns.RR
	// signed says of some names whether what is at or below them is signed.
	signed map[string]bool
}

// newWorld makes a world of nothing but the root and its servers.
func newWorld() *world {
	w := &world{nodes: map[string]map[uint16][]dns.RR{".": {}}, signed: map[string]bool{}}
	w.add(&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 518400}, Ns: "a.root-servers.net."})
	return w
}

// defaultTTL goes before a text, since a parser would otherwise take the TTL
// of one record for that of the next.
const defaultTTL = "$TTL 300\n"

// parse reads the text of all zones.
func parse(text string) (*world, error) {
	w := newWorld()
	var zone strings.Builder
	zone.WriteString(defaultTTL)
	// An empty first line gives way, for errors to name the right line.
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		line = strings.TrimSpace(line)
		ours, err := w.directive(line)
		if err != nil {
			return nil, err
		}
		if ours {
			line = ""
		}
		zone.WriteString(line + "\n")
	}
	p := dns.NewZoneParser(strings.NewReader(zone.String()), ".", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		w.add(rr)
	}
	return w, p.Err()
}

// directive reads a line that says what is signed, and reports whether it is
// one.
func (w *world) directive(line string) (bool, error) {
	text, _, _ := strings.Cut(line, ";")
	fields := strings.Fields(text)
	if len(fields) == 0 || fields[0] != "$SECURE" && fields[0] != "$INSECURE" {
		return false, nil
	}
	for _, name := range fields[1:] {
		if _, ok := dns.IsDomainName(name); !ok {
			return true, fmt.Errorf("%s: not a name: %q", fields[0], name)
		}
		w.signed[canonical(name)] = fields[0] == "$SECURE"
	}
	return true, nil
}

// add adds a record, and the names above it.
func (w *world) add(rr dns.RR) {
	name := canonical(rr.Header().Name)
	for _, parent := range ancestors(name) {
		if w.nodes[parent] == nil {
			w.nodes[parent] = make(map[uint16][]dns.RR)
		}
	}
	t := rr.Header().Rrtype
	w.nodes[name][t] = append(w.nodes[name][t], rr)
}

// result is what the world says to a question.
type result struct {
	answer, authority []dns.RR
	rcode             int
	secure            bool
}

// resolve answers a question as a recursive server does. It follows at most
// links aliases.
func (w *world) resolve(name string, qtype uint16, links int) result {
	r := result{secure: true}
	for passed := []string{}; ; {
		r.secure = r.secure && w.isSigned(name)
		node := w.node(name)
		if node == nil {
			r.rcode = dns.RcodeNameError
			r.authority = []dns.RR{w.soa(name)}
			return r
		}
		if records := node[qtype]; len(records) > 0 {
			r.answer = append(r.answer, owned(records, name)...)
			return r
		}
		alias := node[dns.TypeCNAME]
		if len(alias) == 0 {
			r.authority = []dns.RR{w.soa(name)}
			return r
		}
		r.answer = append(r.answer, owned(alias, name)...)
		passed = append(passed, name)
		name = canonical(alias[0].(*dns.CNAME).Target)
		if len(passed) > links || slices.Contains(passed, name) {
			return r
		}
	}
}

// node returns the records of a name, or of the wildcard that it matches
// (RFC 4592, section 3.3.1); nil if there is no such name.
func (w *world) node(name string) map[uint16][]dns.RR {
	if node := w.nodes[name]; node != nil {
		return node
	}
	for _, encloser := range ancestors(name)[1:] {
		if w.nodes[encloser] != nil {
			return w.nodes["*."+strings.TrimPrefix(encloser, ".")]
		}
	}
	return nil
}

// isSigned reports what the longest name says about name. The root itself is
// signed if nothing is said of it.
func (w *world) isSigned(name string) bool {
	for _, parent := range ancestors(name) {
		if signed, ok := w.signed[parent]; ok {
			return signed
		}
	}
	return name == "."
}

// soa returns the SOA record of the zone that name lies in.
func (w *world) soa(name string) dns.RR {
	for _, apex := range ancestors(name) {
		if soa := w.nodes[apex][dns.TypeSOA]; len(soa) > 0 {
			return soa[0]
		}
	}
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  ".", Mbox: ".", Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 60,
	}
}

// owned returns copies of records as those of name, which is not theirs if
// they are from a wildcard.
func owned(records []dns.RR, name string) []dns.RR {
	var copies []dns.RR
	for _, rr := range records {
		rr = dns.Copy(rr)
		rr.Header().Name = name
		copies = append(copies, rr)
	}
	return copies
}

// ancestors returns name and all names above it, up to the root.
func ancestors(name string) []string {
	var names []string
	for _, i := range dns.Split(name) {
		names = append(names, name[i:])
	}
	return append(names, ".")
}
