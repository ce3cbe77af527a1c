package dnsclient_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

func TestFailOver(t *testing.T) {
	malformed := func(network string, q *dns.Msg) [][]byte {
		m := pack(network, answer(q, "a.test. 60 A 192.0.2.1"))
		return [][]byte{m[:len(m)-2]}
	}
	tests := []struct {
		what          string
		first, second script
		want          string
		seen          string // "1" and "2" for tries
		took          time.Duration
	}{
		{"both well", right, right, good, "1", 0},
		{"first silent", silent, right, good, "12", 2 * time.Second},
		{"first dead", nil, right, good, "12", 0},
		{"first malformed", malformed, right, good, "12", 0},
		{"first fails", rcode(dns.RcodeServerFailure), right, good, "12", 0},
		{"first refuses", rcode(dns.RcodeRefused), right, good, "12", 0},
		{"first does not know the question", rcode(dns.RcodeNotAuth), right, good, "12", 0},
		{"first does not recurse", says(func(m *dns.Msg) { m.RecursionAvailable = false }), right, good, "12", 0},
		{"first does not recurse, and has nothing", says(func(m *dns.Msg) { m.RecursionAvailable, m.Answer = false, nil }), right, good, "12", 0},
		{"first refers up", says(func(m *dns.Msg) {
			m.Answer, m.Ns = nil, []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 1}, Ns: "ns."}}
		}), right, good, "12", 0},
		{"first denies", rcode(dns.RcodeNameError), right, "a.test. exists=false secure", "1", 0},
		{"both silent", silent, silent, "timeout " + first, "121", 6 * time.Second},
		{"both dead", nil, nil, "network " + first, "121", 0},
		{"both malformed", malformed, malformed, "malformed " + first, "121", 0},
		{"both fail: nobody is asked again", rcode(dns.RcodeServerFailure), rcode(dns.RcodeServerFailure), "servfail " + second, "12", 0},
		{"what a server said goes before silence", rcode(dns.RcodeServerFailure), silent, "servfail " + first, "122", 4 * time.Second},
		{"and the other way round", silent, rcode(dns.RcodeRefused), "refused " + second, "121", 4 * time.Second},
		{"a loop is a loop everywhere", says(func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: "a.test.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "a.test."}}
		}), right, "loop " + first, "1", 0},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, tt.first)
				n.set(second, tt.second)
				c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
				start := time.Now()
				if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				var seen strings.Builder
				for _, line := range n.seen() {
					seen.WriteByte(line[len("127.0.0.")])
				}
				if seen.String() != tt.seen {
					t.Errorf("asked %s, want %s", seen.String(), tt.seen)
				}
			})
		})
	}
}

// A server that recovered is not asked first until it is its turn.
func TestTheServerThatAnsweredLastIsPreferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, silent)
		n.set(second, right)
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
		ask := func(when, want string) {
			t.Helper()
			if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
				t.Errorf("%s: got %s", when, got)
			}
			var asked []string
			for _, line := range n.seen() {
				asked = append(asked, strings.Fields(line)[0])
			}
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("%s: asked %s, want %s", when, got, want)
			}
		}
		ask("at first", first+" "+second)
		ask("then", second)
		time.Sleep(time.Minute)
		ask("a minute later", first+" "+second)
		ask("then", second)
		n.set(first, right)
		time.Sleep(time.Minute)
		ask("when the first is well again", first)
		ask("then", first)
	})
}

func TestAliasesAreFollowedAcrossMessages(t *testing.T) {
	world := map[string]string{
		"a0.test.": "a0.test. 60 CNAME a1.test.",
		"a1.test.": "a1.test. 60 CNAME a2.test.",
		"a2.test.": "a2.test. 60 A 192.0.2.1",
	}
	asks := func(ad bool) script {
		return func(network string, q *dns.Msg) [][]byte {
			m := answer(q, world[q.Question[0].Name])
			m.AuthenticatedData = ad
			return [][]byte{pack(network, m)}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, asks(true))
		n.set(third, asks(true))
		c := newClient(t, n, dnsclient.Options{Servers: []string{first}})
		if got, want := outcome(c.Query(t.Context(), "A0.test", dns.TypeA)), "a2.test. exists=true secure 192.0.2.1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		want := []string{first + " udp a0.test.", first + " udp a1.test.", first + " udp a2.test."}
		if got := n.seen(); !slices.Equal(got, want) {
			t.Errorf("asked %v, want %v", got, want)
		}
		c = newClient(t, n, dnsclient.Options{Servers: []string{third}})
		if got, want := outcome(c.Query(t.Context(), "A0.test", dns.TypeA)), "a2.test. exists=true unknown 192.0.2.1"; got != want {
			t.Errorf("from afar: got %s, want %s", got, want)
		}
		c = newClient(t, n, dnsclient.Options{Servers: []string{third}, TrustAD: true})
		if got, want := outcome(c.Query(t.Context(), "A0.test", dns.TypeA)), "a2.test. exists=true secure 192.0.2.1"; got != want {
			t.Errorf("from afar, trusted: got %s, want %s", got, want)
		}
	})
}

// Tries that fail are counted over the whole chain, so that it ends in time.
func TestTriesAreBoundedOverAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, failed := new(network), new(sync.Map)
		n.set(first, func(network string, q *dns.Msg) [][]byte {
			name := q.Question[0].Name
			if _, again := failed.LoadOrStore(name, true); !again {
				return nil
			}
			return [][]byte{pack(network, answer(q, name+" 60 CNAME x"+name))}
		})
		c := newClient(t, n, dnsclient.Options{Servers: []string{first}})
		start := time.Now()
		if got, want := outcome(c.Query(t.Context(), "a.test", dns.TypeA)), "timeout "+first; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("took %v, want 6s", took)
		}
	})
}

// A domain that makes a server fail must not change whom others are asked of.
func TestAnErrorDoesNotChangeThePreference(t *testing.T) {
	for _, code := range []int{dns.RcodeServerFailure, dns.RcodeRefused, dns.RcodeNotAuth} {
		synctest.Test(t, func(t *testing.T) {
			n := new(network)
			n.set(first, func(network string, q *dns.Msg) [][]byte {
				if q.Question[0].Name == "bad.test." {
					return rcode(code)(network, q)
				}
				return right(network, q)
			})
			n.set(second, right)
			c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
			for _, name := range []string{"bad.test", "a.test"} {
				if _, err := c.Query(t.Context(), name, dns.TypeA); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			want := []string{first + " udp bad.test.", second + " udp bad.test.", first + " udp a.test."}
			if got := n.seen(); !slices.Equal(got, want) {
				t.Errorf("%s: asked %v, want %v", dns.RcodeToString[code], got, want)
			}
		})
	}
}

// Nor may a domain that makes it silent, where another server's AD bit does
// not count.
func TestSilenceDoesNotTakeTheProofAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, func(network string, q *dns.Msg) [][]byte {
			if q.Question[0].Name == "bad.test." {
				return nil
			}
			return right(network, q)
		})
		n.set(third, right)
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, third}})
		if got, want := outcome(c.Query(t.Context(), "bad.test", dns.TypeA)), "bad.test. exists=true unknown 192.0.2.1"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
			t.Errorf("the next domain: got %s", got)
		}
	})
}
