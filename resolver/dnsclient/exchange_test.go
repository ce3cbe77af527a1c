package dnsclient_test

import (
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

func TestWhatDoesNotFitIsIgnored(t *testing.T) {
	forge := func(change func(m *dns.Msg)) func(q *dns.Msg) []byte {
		return func(q *dns.Msg) []byte {
			m := answer(q, "a.test. 60 A 203.0.113.66")
			change(m)
			return pack("udp", m)
		}
	}
	forged := map[string]func(q *dns.Msg) []byte{
		"wrong id":         forge(func(m *dns.Msg) { m.Id++ }),
		"wrong name":       forge(func(m *dns.Msg) { m.Question[0].Name = "b.test." }),
		"wrong type":       forge(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }),
		"wrong class":      forge(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"a query":          forge(func(m *dns.Msg) { m.Response = false }),
		"another opcode":   forge(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		"no question":      forge(func(m *dns.Msg) { m.Question = nil }),
		"denial, no quest": forge(func(m *dns.Msg) { m.Question, m.Answer, m.Rcode = nil, nil, dns.RcodeNameError }),
		"two questions":    forge(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"wrong id, SERVFAIL": forge(func(m *dns.Msg) {
			m.Id, m.Rcode, m.Answer = m.Id+1, dns.RcodeServerFailure, nil
		}),
		"wrong id, TC":      forge(func(m *dns.Msg) { m.Id, m.Truncated = m.Id+1, true }),
		"empty":             func(*dns.Msg) []byte { return []byte{} },
		"one byte":          func(q *dns.Msg) []byte { return pack("udp", q)[:1] },
		"half a header":     func(q *dns.Msg) []byte { return pack("udp", answer(q))[:6] },
		"the header only":   func(q *dns.Msg) []byte { return pack("udp", answer(q))[:12] },
		"half the question": func(q *dns.Msg) []byte { return pack("udp", answer(q))[:15] },
		"a name that points to itself": func(q *dns.Msg) []byte {
			return append(pack("udp", answer(q))[:12], 0xC0, 12, 0, 1, 0, 1)
		},
	}
	for name, f := range forged {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, func(network string, q *dns.Msg) [][]byte {
					return [][]byte{f(q), f(q), pack(network, answer(q, "a.test. 60 A 192.0.2.1"))}
				})
				c := newClient(t, n, dnsclient.Options{Attempts: 1})
				if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
					t.Errorf("got %s, want %s", got, good)
				}
			})
		})
	}
}

// The question comes back in any case; what counts is the name.
func TestTheQuestionMayChangeItsCase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, says(func(m *dns.Msg) { m.Question[0].Name = "A.TEST." }))
		c := newClient(t, n, dnsclient.Options{Attempts: 1})
		if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
			t.Errorf("got %s", got)
		}
	})
}

func TestQueryBits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, right)
		c := newClient(t, n, dnsclient.Options{})
		ids := map[uint16]bool{}
		for range 50 {
			if _, err := c.Query(t.Context(), "a.test", dns.TypeA); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range n.queries {
			ids[q.Id] = true
			opt := q.IsEdns0()
			if !q.RecursionDesired || !q.AuthenticatedData || q.CheckingDisabled || opt == nil || opt.Do() || opt.UDPSize() != 1232 {
				t.Fatalf("query: %v", q)
			}
		}
		if len(ids) < 40 {
			t.Errorf("%d different ids in 50 queries", len(ids))
		}
	})
}

func TestServersWithoutEDNS(t *testing.T) {
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented, dns.RcodeBadVers} {
		for _, bare := range []string{"with the question", "without"} {
			t.Run(dns.RcodeToString[code]+" "+bare, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := new(network)
					n.set(first, func(network string, q *dns.Msg) [][]byte {
						m := answer(q, "a.test. 60 A 192.0.2.1")
						if q.IsEdns0() != nil {
							m.Answer, m.Rcode = nil, code
							if code == dns.RcodeBadVers {
								m.SetEdns0(512, false)
							} else if bare == "without" {
								m.Question = nil
							}
						}
						return [][]byte{pack(network, m)}
					})
					c := newClient(t, n, dnsclient.Options{Attempts: 1})
					if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
						t.Errorf("got %s", got)
					}
					if got := len(n.seen()); got != 2 {
						t.Errorf("%d queries, want 2", got)
					}
				})
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, rcode(dns.RcodeFormatError))
		c := newClient(t, n, dnsclient.Options{})
		if got, want := outcome(c.Query(t.Context(), "a.test", dns.TypeA)), "rcode "+first; got != want {
			t.Errorf("FORMERR for ever: got %s, want %s", got, want)
		}
		if got := len(n.seen()); got != 2 {
			t.Errorf("FORMERR for ever: %d queries, want 2", got)
		}
	})
}

func TestTCP(t *testing.T) {
	whole := func(q *dns.Msg) []byte { return pack("tcp", answer(q, "a.test. 60 A 192.0.2.1")) }
	tests := []struct {
		what string
		tcp  func(q *dns.Msg) [][]byte
		want string
	}{
		{"an answer", func(q *dns.Msg) [][]byte { return [][]byte{whole(q)} }, good},
		{"byte by byte", func(q *dns.Msg) [][]byte {
			var bytes [][]byte
			for _, b := range whole(q) {
				bytes = append(bytes, []byte{b})
			}
			return bytes
		}, good},
		{"closed at once", func(*dns.Msg) [][]byte { return nil }, "network " + first},
		{"closed in the length", func(q *dns.Msg) [][]byte { return [][]byte{whole(q)[:1]} }, "network " + first},
		{"closed behind the length", func(q *dns.Msg) [][]byte { return [][]byte{whole(q)[:2]} }, "network " + first},
		{"closed in the answer", func(q *dns.Msg) [][]byte { return [][]byte{whole(q)[:20]} }, "network " + first},
		{"length 0", func(*dns.Msg) [][]byte { return [][]byte{{0, 0}} }, "malformed " + first},
		{"less than a header", func(*dns.Msg) [][]byte { return [][]byte{{0, 3, 1, 2, 3}} }, "malformed " + first},
		{"to another question", func(q *dns.Msg) [][]byte {
			m := answer(q)
			m.Id++
			return [][]byte{pack("tcp", m)}
		}, "malformed " + first},
		{"truncated", func(q *dns.Msg) [][]byte {
			m := answer(q)
			m.Truncated = true
			return [][]byte{pack("tcp", m)}
		}, "malformed " + first},
		{"SERVFAIL", func(q *dns.Msg) [][]byte {
			m := answer(q)
			m.Rcode = dns.RcodeServerFailure
			return [][]byte{pack("tcp", m)}
		}, "servfail " + first},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, func(network string, q *dns.Msg) [][]byte {
					if network == "tcp" {
						return tt.tcp(q)
					}
					// What a truncated answer holds must not be believed, and
					// it may end anywhere.
					m := answer(q, "a.test. 60 A 203.0.113.66")
					m.Truncated = true
					packed := pack(network, m)
					return [][]byte{packed[:len(packed)-7]}
				})
				c := newClient(t, n, dnsclient.Options{Attempts: 1})
				if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if got, want := n.seen(), []string{first + " udp a.test.", first + " tcp a.test."}; !slices.Equal(got, want) {
					t.Errorf("asked %v, want %v", got, want)
				}
			})
		})
	}
}

// A datagram that is larger than what is read of it goes over TCP too, and a
// try lasts no longer for that.
func TestOversizedDatagramAndSilentTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, func(network string, q *dns.Msg) [][]byte {
			if network == "tcp" {
				time.Sleep(10 * time.Second)
				return nil
			}
			m := answer(q)
			for i := range 400 {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "a.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, byte(i>>8), byte(i))})
			}
			return [][]byte{pack(network, m)[:4096]}
		})
		c := newClient(t, n, dnsclient.Options{Attempts: 1})
		start := time.Now()
		if got, want := outcome(c.Query(t.Context(), "a.test", dns.TypeA)), "timeout "+first; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v, want 2s", took)
		}
		time.Sleep(10 * time.Second) // Until the server is done.
	})
}

func TestLargestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 4000
		n := new(network)
		n.set(first, func(network string, q *dns.Msg) [][]byte {
			m := answer(q)
			m.Compress = true
			if network == "udp" {
				m.Truncated = true
				return [][]byte{pack(network, m)}
			}
			for i := range count {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "a.test.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, byte(i>>8), byte(i))})
			}
			return [][]byte{pack(network, m)}
		})
		c := newClient(t, n, dnsclient.Options{})
		a, err := c.Query(t.Context(), "a.test", dns.TypeA)
		if err != nil || len(a.Records) != count {
			t.Errorf("got %d records, %v, want %d", len(a.Records), err, count)
		}
	})
}
