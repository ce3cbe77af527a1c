package dnsclient_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

func TestServFailOfAServerThatPassedIsFinal(t *testing.T) {
	for _, tt := range []struct {
		what   string
		test   script
		others script
		want   string
		asked  int
	}{
		{"passed", passes, rcode(dns.RcodeServerFailure), "servfail " + first, 1},
		{"failed", fails, rcode(dns.RcodeServerFailure), "a.test. exists=true unknown 192.0.2.1", 2},
		{"silent", silent, rcode(dns.RcodeServerFailure), "a.test. exists=true unknown 192.0.2.1", 2},
		{"passed, but refuses", passes, rcode(dns.RcodeRefused), "a.test. exists=true unknown 192.0.2.1", 2},
		{"passed, but is dead now", passes, nil, "a.test. exists=true unknown 192.0.2.1", 2},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, tt.test)
				n.set(third, right)
				c := newClient(t, n, dnsclient.Options{Servers: []string{first, third}})
				c.Validating(t.Context())
				n.set(first, tt.others)
				n.seen()
				if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if got := n.seen(); len(got) != tt.asked {
					t.Errorf("asked %v, want %d", got, tt.asked)
				}
			})
		})
	}
}

// asked returns the addresses of those that were asked for a name.
func asked(n *network, name string) string {
	var list []string
	for _, line := range n.seen() {
		if f := strings.Fields(line); f[2] == name || f[2] == "refused" {
			list = append(list, f[0])
		}
	}
	return strings.Join(list, " ")
}

func TestServersThatPassedAreAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, tested(fails, unsigned))
		n.set(second, tested(passes, right))
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
		c.Validating(t.Context())
		n.seen()
		for range 3 {
			if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
				t.Errorf("got %s", got)
			}
			if got := asked(n, "a.test."); got != second {
				t.Errorf("asked %s", got)
			}
		}
	})
}

// A domain that makes the validating server silent gets an answer of unknown
// security, and takes the proof away from nobody else.
func TestSilenceForOneDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, tested(passes, func(network string, q *dns.Msg) [][]byte {
			if q.Question[0].Name == "bad.test." {
				return nil
			}
			return right(network, q)
		}))
		n.set(second, tested(fails, unsigned))
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
		run(t, c)
		for range 5 {
			if got, want := outcome(c.Query(t.Context(), "bad.test", dns.TypeA)), "bad.test. exists=true unknown 192.0.2.1"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			n.seen()
			if got := outcome(c.Query(t.Context(), "a.test", dns.TypeA)); got != good {
				t.Errorf("the next domain: got %s", got)
			}
			if got := asked(n, "a.test."); got != first {
				t.Errorf("asked %s", got)
			}
			time.Sleep(time.Minute)
		}
	})
}

// The validating server dies: who does not need it does not wait for it for
// long. It comes back: it is asked first again.
func TestADeadServerIsNotAskedFirstForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, tested(passes, right))
		n.set(second, tested(fails, unsigned))
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
		run(t, c)
		ask := func(when, want string) {
			t.Helper()
			n.seen()
			if _, err := c.Query(t.Context(), "a.test", dns.TypeTXT); err != nil {
				t.Errorf("%s: %v", when, err)
			}
			if got := asked(n, "a.test."); got != want {
				t.Errorf("%s: asked %s, want %s", when, got, want)
			}
		}
		ask("at first", first)
		n.set(first, silent)
		ask("when it is dead", first+" "+second)
		time.Sleep(4 * time.Second)
		ask("a little later", second)
		n.set(first, tested(passes, right))
		time.Sleep(time.Minute)
		ask("when it is back", first)
	})
}
