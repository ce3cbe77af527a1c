package dnsclient

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzAnswer reads any bytes as the answer to a question, as they would come
// from a server.
func FuzzAnswer(f *testing.F) {
	q := newQuery(dns.Question{Name: "a0.test.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET})
	q.Id = 0x1234
	for _, m := range []message{
		{answer: "a0.test. 60 TXT \"v=STSv1; id=1;\" \"x\""},
		{answer: links(3) + "a3.test. 60 TXT \"x\"", insecure: true},
		{answer: links(8), authority: soa},
		{answer: links(1) + "a1.test. 5 CNAME a0.test."},
		{rcode: dns.RcodeNameError, authority: soa},
		{rcode: dns.RcodeServerFailure},
		{authority: "test. 60 NS ns.test."},
		{answer: "a0.test. 4294967295 TXT \"\"\na0.test. 1 MX 1 b.test.\nb.test. 1 A 192.0.2.1"},
	} {
		msg := m.msg(f)
		msg.Id, msg.Question, msg.Compress = q.Id, q.Question, true
		msg.SetEdns0(ednsSize, false)
		packed, err := msg.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
		f.Add(packed[:len(packed)-len(packed)/3])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		// Let the mutations reach what is behind the id and the question.
		if len(data) >= headerSize {
			binary.BigEndian.PutUint16(data, q.Id)
			data[2] |= 0x80
		}
		if !fits(data, q) {
			return
		}
		c := newChain("a0.test.", dns.TypeTXT)
		m, err := unpack(data)
		if err == nil {
			err = checkStatus(m)
		}
		if err == nil {
			word := Unknown
			if m.AuthenticatedData {
				word = Secure
			}
			c, err = c.add(m, word)
		}
		if err != nil {
			if k := kindOf(t.Context(), err); k == KindNetwork || k == KindTimeout {
				t.Fatalf("an answer is not a matter of the network: %v", err)
			}
			return
		}
		checkChain(t, c, m)
	})
}

// checkChain checks what every chain must be after one message.
func checkChain(t *testing.T, c chain, m *dns.Msg) {
	if len(c.passed) > maxLinks {
		t.Fatalf("%d links", len(c.passed))
	}
	if !c.done {
		if len(c.passed) == 0 {
			t.Fatal("neither done nor a link further")
		}
		return
	}
	a := c.answer
	if a.Security == Secure && !m.AuthenticatedData {
		t.Error("secure without AD")
	}
	if a.TTL < 0 || a.TTL > math.MaxInt32*time.Second {
		t.Errorf("TTL %v", a.TTL)
	}
	if !a.Exists && (len(a.Records) > 0 || m.Rcode != dns.RcodeNameError) {
		t.Errorf("does not exist, with %d records and rcode %d", len(a.Records), m.Rcode)
	}
	if a.Name != strings.ToLower(a.Name) || !dns.IsFqdn(a.Name) {
		t.Errorf("name %q", a.Name)
	}
	for _, rr := range a.Records {
		h := rr.Header()
		if h.Rrtype != dns.TypeTXT || !strings.EqualFold(h.Name, a.Name) || len(rr.(*dns.TXT).Txt) == 0 {
			t.Errorf("record %v of %q", rr, a.Name)
		}
		_ = Text(rr.(*dns.TXT))
	}
}

// FuzzFits reads any bytes as a datagram: only the answer to the question may
// fit, and looking at it must not fail.
func FuzzFits(f *testing.F) {
	q := newQuery(dns.Question{Name: "a.test.", Qtype: dns.TypeA, Qclass: dns.ClassINET})
	q.Id = 0x1234
	packed, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if !fits(data, q) {
			return
		}
		if len(data) < headerSize || data[0] != 0x12 || data[1] != 0x34 || data[2]&0x80 == 0 {
			t.Errorf("%x fits", data)
		}
		_ = isTruncated(data)
	})
}

// FuzzResolvConf reads any text as a resolv.conf: there is always a server to
// ask, and never too many.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.1\noptions trust-ad\n")
	f.Add("# x\nsearch a b\nnameserver fe80::1%eth0\nnameserver\n;\noptions # trust-ad")
	f.Fuzz(func(t *testing.T, text string) {
		list, listed := parseResolvConf([]byte(text), untrusted)
		if len(list) < 1 || len(list) > maxServers || listed > maxServers {
			t.Errorf("%d servers, %d listed", len(list), listed)
		}
		for _, e := range list {
			if !e.addr.IsValid() || e.addr.Port() != defaultPort {
				t.Errorf("server %v", e.addr)
			}
			if e.trustAD && !e.addr.Addr().IsLoopback() && !strings.Contains(text, "trust-ad") {
				t.Errorf("AD of %v counts", e.addr)
			}
		}
	})
}

// FuzzCanonical reads any text as a name: what is a name stays the same name.
func FuzzCanonical(f *testing.F) {
	f.Add("example.com")
	f.Add(`a\.b\065.\\.`)
	f.Fuzz(func(t *testing.T, name string) {
		once, err := canonical(name)
		if err != nil {
			return
		}
		if twice, err := canonical(once); err != nil || twice != once {
			t.Errorf("%q, then %q, then %q, %v", name, once, twice, err)
		}
		m := newQuery(dns.Question{Name: once, Qtype: dns.TypeA, Qclass: dns.ClassINET})
		packed, err := m.Pack()
		if err != nil {
			t.Fatalf("%q cannot be asked for: %v", once, err)
		}
		packed[2] |= 0x80
		if !fits(packed, m) {
			t.Errorf("%q does not fit itself", once)
		}
	})
}
