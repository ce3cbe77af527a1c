package dnsclient

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// message is an answer as text.
type message struct {
	rcode     int
	insecure  bool
	unknown   bool
	answer    string // One record per line.
	authority string
}

func records(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

func (m message) msg(t testing.TB) *dns.Msg {
	t.Helper()
	return &dns.Msg{
		MsgHdr: dns.MsgHdr{Response: true, RecursionAvailable: true, Rcode: m.rcode, AuthenticatedData: !m.insecure && !m.unknown},
		Answer: records(t, m.answer), Ns: records(t, m.authority),
	}
}

func (m message) security() Security {
	switch {
	case m.unknown:
		return Unknown
	case m.insecure:
		return Insecure
	default:
		return Secure
	}
}

// feed gives messages to a chain, and makes one line of the outcome.
func feed(t testing.TB, c chain, messages []message) string {
	t.Helper()
	for i, m := range messages {
		next, err := c.add(m.msg(t), m.security())
		if err != nil {
			var e *cause
			if !errors.As(err, &e) {
				t.Fatalf("message %d: an error without a kind: %v", i, err)
			}
			return "error: " + e.kind.String()
		}
		c = next
	}
	if !c.done {
		return "ask for " + c.name
	}
	a := c.answer
	s := fmt.Sprintf("%s exists=%v %v ttl=%d", a.Name, a.Exists, a.Security, a.TTL/time.Second)
	for _, rr := range a.Records {
		s += " [" + data(rr) + "]"
	}
	return s
}

const soa = "test. 300 SOA ns.test. root.test. 1 60 60 60 60"

// links is a chain of n aliases from a0.test to an.test.
func links(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "a%d.test. 60 CNAME a%d.test.\n", i, i+1)
	}
	return b.String()
}

func TestChain(t *testing.T) {
	tests := []struct {
		what     string
		name     string
		qtype    uint16
		messages []message
		want     string
	}{
		{"one record", "a.test.", dns.TypeA, []message{{answer: "a.test. 60 A 192.0.2.1"}},
			"a.test. exists=true secure ttl=60 [192.0.2.1]"},
		{"owner in another case", "a.test.", dns.TypeA, []message{{answer: "A.Test. 60 A 192.0.2.1"}},
			"a.test. exists=true secure ttl=60 [192.0.2.1]"},
		{"records of others are nobody's", "a.test.", dns.TypeA, []message{{answer: "b.test. 60 A 192.0.2.9\na.test. 60 A 192.0.2.1\nb.a.test. 1 A 192.0.2.8"}},
			"a.test. exists=true secure ttl=60 [192.0.2.1]"},
		{"only records of others", "a.test.", dns.TypeA, []message{{answer: "b.test. 60 A 192.0.2.9"}},
			"a.test. exists=true secure ttl=0"},
		{"an alias of another", "a.test.", dns.TypeA, []message{{answer: "b.test. 60 CNAME c.test.\nc.test. 60 A 192.0.2.1"}},
			"a.test. exists=true secure ttl=0"},
		{"records of another class", "a.test.", dns.TypeTXT, []message{{answer: "a.test. 60 CH TXT \"x\"", authority: soa}},
			"a.test. exists=true secure ttl=60"},
		{"duplicates once, by their smallest TTL", "a.test.", dns.TypeMX, []message{{answer: "a.test. 60 MX 1 m.test.\na.test. 30 MX 1 M.test.\na.test. 50 MX 2 m.test."}},
			"a.test. exists=true secure ttl=30 [1 m.test.] [2 m.test.]"},
		{"texts that differ in case", "a.test.", dns.TypeTXT, []message{{answer: "a.test. 60 TXT \"v\"\na.test. 60 TXT \"V\""}},
			`a.test. exists=true secure ttl=60 ["v"] ["V"]`},
		{"TTL 0", "a.test.", dns.TypeA, []message{{answer: "a.test. 0 A 192.0.2.1"}},
			"a.test. exists=true secure ttl=0 [192.0.2.1]"},
		{"the largest TTL", "a.test.", dns.TypeA, []message{{answer: "a.test. 2147483647 A 192.0.2.1"}},
			"a.test. exists=true secure ttl=2147483647 [192.0.2.1]"},
		{"a TTL with the top bit is 0", "a.test.", dns.TypeA, []message{{answer: "a.test. 2147483648 A 192.0.2.1\na.test. 60 A 192.0.2.2"}},
			"a.test. exists=true secure ttl=0 [192.0.2.1] [192.0.2.2]"},
		{"without AD", "a.test.", dns.TypeA, []message{{insecure: true, answer: "a.test. 60 A 192.0.2.1"}},
			"a.test. exists=true insecure ttl=60 [192.0.2.1]"},
		{"from who knows", "a.test.", dns.TypeA, []message{{unknown: true, answer: "a.test. 60 A 192.0.2.1"}},
			"a.test. exists=true unknown ttl=60 [192.0.2.1]"},

		{"an alias", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 20 CNAME A1.Test.\na1.test. 60 A 192.0.2.1"}},
			"a1.test. exists=true secure ttl=20 [192.0.2.1]"},
		{"an alias after its target", "a0.test.", dns.TypeA, []message{{answer: "a1.test. 60 A 192.0.2.1\na0.test. 20 CNAME a1.test."}},
			"a1.test. exists=true secure ttl=20 [192.0.2.1]"},
		{"the alias itself", "a0.test.", dns.TypeCNAME, []message{{answer: links(2)}},
			"a0.test. exists=true secure ttl=60 [a1.test.]"},
		{"no alias", "a0.test.", dns.TypeCNAME, []message{{authority: soa}},
			"a0.test. exists=true secure ttl=60"},
		{"an alias given twice", "a0.test.", dns.TypeA, []message{{answer: links(1) + links(1) + "a1.test. 60 A 192.0.2.1"}},
			"a1.test. exists=true secure ttl=60 [192.0.2.1]"},
		{"an alias of two names", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 60 CNAME a1.test.\na0.test. 60 CNAME a2.test.\na1.test. 60 A 192.0.2.1"}},
			"error: malformed"},
		{"8 links", "a0.test.", dns.TypeA, []message{{answer: links(8) + "a8.test. 60 A 192.0.2.1"}},
			"a8.test. exists=true secure ttl=60 [192.0.2.1]"},
		{"9 links", "a0.test.", dns.TypeA, []message{{answer: links(9) + "a9.test. 60 A 192.0.2.1"}},
			"error: loop"},
		{"9 links in two messages", "a0.test.", dns.TypeA, []message{{answer: links(8)}, {answer: "a8.test. 60 CNAME a9.test."}},
			"error: loop"},
		{"a loop", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 60 CNAME a1.test.\na1.test. 60 CNAME A0.test."}},
			"error: loop"},
		{"an alias of itself", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 60 CNAME a0.test."}},
			"error: loop"},
		{"a loop over two messages", "a0.test.", dns.TypeA, []message{{answer: links(1)}, {answer: "a1.test. 60 CNAME a0.test."}},
			"error: loop"},
		{"an answer that stops at an alias", "a0.test.", dns.TypeA, []message{{answer: links(2)}},
			"ask for a2.test."},
		{"and the answer for its target", "a0.test.", dns.TypeA, []message{{answer: links(2)}, {answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true secure ttl=10 [192.0.2.1]"},
		{"an insecure alias", "a0.test.", dns.TypeA, []message{{insecure: true, answer: links(2)}, {answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true insecure ttl=10 [192.0.2.1]"},
		{"an insecure target", "a0.test.", dns.TypeA, []message{{answer: links(2)}, {insecure: true, answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true insecure ttl=10 [192.0.2.1]"},
		{"an unknown alias", "a0.test.", dns.TypeA, []message{{unknown: true, answer: links(2)}, {answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true unknown ttl=10 [192.0.2.1]"},
		{"an unknown target", "a0.test.", dns.TypeA, []message{{answer: links(2)}, {unknown: true, answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true unknown ttl=10 [192.0.2.1]"},
		{"an unknown alias of an insecure target", "a0.test.", dns.TypeA, []message{{unknown: true, answer: links(2)}, {insecure: true, answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true unknown ttl=10 [192.0.2.1]"},
		{"an insecure alias of an unknown target", "a0.test.", dns.TypeA, []message{{insecure: true, answer: links(2)}, {unknown: true, answer: "a2.test. 10 A 192.0.2.1"}},
			"a2.test. exists=true unknown ttl=10 [192.0.2.1]"},
		{"an unknown denial", "a.test.", dns.TypeA, []message{{unknown: true, rcode: dns.RcodeNameError, authority: soa}},
			"a.test. exists=false unknown ttl=60"},
		{"a target that does not exist", "a0.test.", dns.TypeA, []message{{rcode: dns.RcodeNameError, answer: links(2), authority: soa}},
			"a2.test. exists=false secure ttl=60"},
		{"a target without records", "a0.test.", dns.TypeA, []message{{answer: links(2), authority: soa}},
			"a2.test. exists=true secure ttl=60"},
		{"a denial of another zone than the target's", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 60 CNAME b.example.", authority: soa}},
			"ask for b.example."},
		{"an alias with the servers of its target", "a0.test.", dns.TypeA, []message{{answer: links(1), authority: "test. 60 NS ns.test."}},
			"ask for a1.test."},

		{"negative TTL: the SOA's own", "a.test.", dns.TypeA, []message{{rcode: dns.RcodeNameError, authority: "test. 40 SOA ns.test. root.test. 1 60 60 60 60"}},
			"a.test. exists=false secure ttl=40"},
		{"negative TTL: MINIMUM", "a.test.", dns.TypeA, []message{{authority: "test. 60 SOA ns.test. root.test. 1 60 60 60 40"}},
			"a.test. exists=true secure ttl=40"},
		{"negative TTL: the chain's", "a0.test.", dns.TypeA, []message{{answer: "a0.test. 5 CNAME a1.test.", authority: soa}},
			"a1.test. exists=true secure ttl=5"},
		{"negative TTL: top bit", "a.test.", dns.TypeA, []message{{authority: "test. 4294967295 SOA ns.test. root.test. 1 60 60 60 60"}},
			"a.test. exists=true secure ttl=0"},
		{"negative TTL: MINIMUM beyond all bounds", "a.test.", dns.TypeA, []message{{authority: "test. 90 SOA ns.test. root.test. 1 60 60 60 4294967295"}},
			"a.test. exists=true secure ttl=90"},
		{"NXDOMAIN without SOA", "a.test.", dns.TypeA, []message{{rcode: dns.RcodeNameError}},
			"a.test. exists=false secure ttl=0"},
		{"NXDOMAIN with the SOA of another zone", "a.test.", dns.TypeA, []message{{rcode: dns.RcodeNameError, authority: "example. 60 SOA ns.test. root.test. 1 60 60 60 60"}},
			"a.test. exists=false secure ttl=0"},
		{"NODATA without SOA", "a.test.", dns.TypeA, []message{{}},
			"a.test. exists=true secure ttl=0"},
		{"NODATA with SOA and NS", "a.test.", dns.TypeA, []message{{authority: "test. 60 NS ns.test.\n" + soa}},
			"a.test. exists=true secure ttl=60"},
		{"a referral down", "a.test.", dns.TypeA, []message{{authority: "a.test. 60 NS ns.a.test."}},
			"error: lame"},
		{"a referral up", "a.test.", dns.TypeA, []message{{authority: ". 60 NS a.root-servers.net."}},
			"error: lame"},
		{"NXDOMAIN with records", "a.test.", dns.TypeA, []message{{rcode: dns.RcodeNameError, answer: "a.test. 60 A 192.0.2.1", authority: soa}},
			"error: malformed"},
	}
	for _, tt := range tests {
		if got := feed(t, newChain(tt.name, tt.qtype), tt.messages); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.what, got, tt.want)
		}
	}
}

func TestIncompleteRecordsAreMalformed(t *testing.T) {
	header := func(rrtype uint16) dns.RR_Header {
		return dns.RR_Header{Name: "a.test.", Rrtype: rrtype, Class: dns.ClassINET, Ttl: 60}
	}
	for _, rr := range []dns.RR{
		&dns.A{Hdr: header(dns.TypeA)},
		&dns.AAAA{Hdr: header(dns.TypeAAAA)},
		&dns.TXT{Hdr: header(dns.TypeTXT)},
		&dns.MX{Hdr: header(dns.TypeMX), Preference: 10},
		&dns.CNAME{Hdr: header(dns.TypeCNAME)},
	} {
		m := message{}.msg(t)
		m.Answer = []dns.RR{rr}
		_, err := newChain("a.test.", rr.Header().Rrtype).add(m, Secure)
		if kindOf(t.Context(), err) != KindMalformed {
			t.Errorf("%s without data: got %v, want malformed", typeName(rr.Header().Rrtype), err)
		}
	}
}

func TestABadMessageLeavesTheChainAsItWas(t *testing.T) {
	c, err := newChain("a0.test.", dns.TypeA).add(message{answer: links(2)}.msg(t), Secure)
	if err != nil {
		t.Fatal(err)
	}
	bad := message{insecure: true, answer: "a2.test. 1 CNAME a3.test.\na3.test. 1 CNAME a4.test.\na3.test. 1 CNAME a5.test."}
	if _, err := c.add(bad.msg(t), Secure); err == nil {
		t.Fatal("an alias of two names was taken")
	}
	want := "a2.test. exists=true secure ttl=60 [192.0.2.1]"
	if got := feed(t, c, []message{{answer: "a2.test. 60 A 192.0.2.1"}}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A message is at most 64 KiB: as many records as that holds, all different,
// take no longer than a moment.
func TestHugeAnswer(t *testing.T) {
	m := message{}.msg(t)
	for i := range 4000 {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: "a.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
			A:   []byte{10, 0, byte(i >> 8), byte(i)},
		})
	}
	start := time.Now()
	c, err := newChain("a.test.", dns.TypeA).add(m, Secure)
	if err != nil || len(c.answer.Records) != 4000 {
		t.Fatalf("got %d records, %v", len(c.answer.Records), err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestText(t *testing.T) {
	for zone, want := range map[string]string{
		`"v=STSv1; " "id=1;"`:  "v=STSv1; id=1;",
		`""`:                   "",
		`"a\"b\\c" "\255\000"`: "a\"b\\c\xff\x00",
		`"\065\0666"`:          "AB6",
	} {
		m := message{answer: "a.test. 60 TXT " + zone}.msg(t)
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if m, err = unpack(packed); err != nil {
			t.Fatal(err)
		}
		if got := Text(m.Answer[0].(*dns.TXT)); got != want {
			t.Errorf("%s: got %q, want %q", zone, got, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label[:61]}, ".")
	accept := map[string]string{
		"example.com":            "example.com.",
		"Example.COM.":           "example.com.",
		"_25._tcp.MX.example":    "_25._tcp.mx.example.",
		".":                      ".",
		"com":                    "com.",
		label + ".test":          label + ".test.",
		longest:                  longest + ".",
		longest + ".":            longest + ".",
		`a\.b.test`:              `a\.b.test.`,
		`\065.test`:              "a.test.",
		"two words.test":         `two\ words.test.`,
		"b\xc3\xbccher.test":     `b\195\188cher.test.`,
		"\x00\n.test":            `\000\010.test.`,
		strings.ToUpper(longest): longest + ".",
	}
	for name, want := range accept {
		if got, err := canonical(name); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
	}
	reject := map[string]string{
		"":                    "empty",
		"..":                  "empty labels",
		"a..b":                "an empty label",
		".a":                  "an empty label",
		"a..":                 "an empty label at the end",
		label + "a.test":      "a label of 64 bytes",
		longest + "a":         "254 bytes",
		longest + "a.":        "254 bytes and a dot",
		"x." + longest + ".y": "far too long",
	}
	for name, reason := range reject {
		if got, err := canonical(name); !errors.Is(err, errName) {
			t.Errorf("%q (%s): got %q, %v", name, reason, got, err)
		}
	}
}

// Only a loop is an answer; who gave up on a long chain does not know its end.
func TestLoopIsToldFromALongChain(t *testing.T) {
	for text, want := range map[string]bool{
		"a0.test. 60 CNAME a0.test.":                             true,
		"a0.test. 60 CNAME a1.test.\na1.test. 60 CNAME a0.test.": true,
		links(9): false,
	} {
		_, err := newChain("a0.test.", dns.TypeTXT).add(message{answer: text}.msg(t), Secure)
		if e, ok := errors.AsType[*cause](err); !ok || e.kind != KindLoop || errors.Is(err, ErrLoop) != want {
			t.Errorf("%q: got %v, want a loop: %v", text, err, want)
		}
	}
}
