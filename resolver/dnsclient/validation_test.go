package dnsclient_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

// Answers to the test of a server.
var (
	passes = says(func(m *dns.Msg) { m.Answer = rootServers() })
	fails  = says(func(m *dns.Msg) { m.Answer, m.AuthenticatedData = rootServers(), false })
)

func rootServers() []dns.RR {
	return []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 1}, Ns: "a.root-servers.net."}}
}

// tested is a server that answers tests in one way and everything else in
// another. Silent is nil, as in a script.
func tested(test, others script) script {
	return func(network string, q *dns.Msg) [][]byte {
		if q.Question[0].Name == "." {
			return test(network, q)
		}
		return others(network, q)
	}
}

// unsigned answers rightly, without AD.
var unsigned = says(func(m *dns.Msg) { m.AuthenticatedData = false })

// run runs c until the test is over.
func run(t *testing.T, c *dnsclient.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	synctest.Wait()
}

func TestOutcomeOfATest(t *testing.T) {
	for _, tt := range []struct {
		what   string
		addr   string
		trust  bool
		answer script
		want   dnsclient.Outcome
	}{
		{"AD from loopback", first, false, passes, dnsclient.OutcomePassed},
		{"AD from IPv6 loopback", "[::1]:53", false, passes, dnsclient.OutcomePassed},
		{"AD from afar", third, false, passes, dnsclient.OutcomeFailed},
		{"AD from afar, trusted", third, true, passes, dnsclient.OutcomePassed},
		{"no AD from loopback", first, false, fails, dnsclient.OutcomeFailed},
		{"no AD from afar", third, false, fails, dnsclient.OutcomeFailed},
		{"no AD from afar, trusted", third, true, fails, dnsclient.OutcomeFailed},
		{"the absence of records, with AD", first, false, says(func(m *dns.Msg) { m.Answer = nil }), dnsclient.OutcomeSilent},
		{"the absence of records, without AD", first, false, says(func(m *dns.Msg) { m.Answer, m.AuthenticatedData = nil, false }), dnsclient.OutcomeFailed},
		{"nothing", first, false, silent, dnsclient.OutcomeSilent},
		{"a dead server", first, false, nil, dnsclient.OutcomeSilent},
		{"SERVFAIL", first, false, rcode(dns.RcodeServerFailure), dnsclient.OutcomeSilent},
		{"REFUSED", first, false, rcode(dns.RcodeRefused), dnsclient.OutcomeSilent},
		{"no recursion", first, false, says(func(m *dns.Msg) { m.Answer, m.RecursionAvailable = rootServers(), false }), dnsclient.OutcomeSilent},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(tt.addr, tt.answer)
				c := newClient(t, n, dnsclient.Options{Servers: []string{tt.addr}, TrustAD: tt.trust})
				if got := c.Servers()[0]; got.Outcome != dnsclient.OutcomeUntested || !got.Tested.IsZero() {
					t.Errorf("before the test: got %+v", got)
				}
				began := time.Now()
				c.Validating(t.Context())
				got := c.Servers()[0]
				if got.Outcome != tt.want || got.Addr.String() != tt.addr || got.Trusted != (tt.trust || tt.addr != third) || !got.Tested.Equal(began) {
					t.Errorf("got %+v, want %v", got, tt.want)
				}
				if (got.Detail == "") != (tt.want == dnsclient.OutcomePassed) {
					t.Errorf("got detail %q", got.Detail)
				}
			})
		})
	}
}

func TestAnswerWithoutADByTheLastTestOfItsServer(t *testing.T) {
	for _, tt := range []struct {
		what  string
		tests []script // One after the other.
		want  dnsclient.Security
	}{
		{"not tested", nil, dnsclient.Unknown},
		{"passed", []script{passes}, dnsclient.Insecure},
		{"failed", []script{fails}, dnsclient.Unknown},
		{"silent", []script{silent}, dnsclient.Unknown},
		{"passed, then silent", []script{passes, silent}, dnsclient.Unknown},
		{"passed, then failed", []script{passes, fails}, dnsclient.Unknown},
		{"failed, then passed", []script{fails, passes}, dnsclient.Insecure},
		{"silent, then passed", []script{silent, passes}, dnsclient.Insecure},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				c := newClient(t, n, dnsclient.Options{})
				for i, s := range tt.tests {
					n.set(first, tested(s, unsigned))
					if i == 0 {
						run(t, c)
					}
					time.Sleep(5*time.Minute + 30*time.Second)
				}
				n.set(first, tested(silent, unsigned))
				a, err := c.Query(t.Context(), "a.test", dns.TypeA)
				if err != nil || a.Security != tt.want {
					t.Errorf("without AD: got %v, %v, want %v", a.Security, err, tt.want)
				}
				n.set(first, tested(silent, right))
				if a, err := c.Query(t.Context(), "a.test", dns.TypeA); err != nil || a.Security != dnsclient.Secure {
					t.Errorf("with AD: got %v, %v", a.Security, err)
				}
			})
		})
	}
}

func TestWhenServersAreTested(t *testing.T) {
	seconds := func(n *network, d time.Duration) (list []int) {
		start := time.Now()
		for time.Since(start) < d {
			if len(n.seen()) > 0 {
				list = append(list, int(time.Since(start)/time.Second))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		return list
	}
	for _, tt := range []struct {
		what  string
		test  script
		lasts time.Duration
		want  []int
	}{
		{"passed", passes, 16 * time.Minute, []int{0, 300, 600, 900}},
		{"failed", fails, 11 * time.Minute, []int{0, 300, 600}},
		{"dead", nil, 5 * time.Second, []int{0, 1, 2, 3, 4}},
		{"SERVFAIL", rcode(dns.RcodeServerFailure), 5 * time.Second, []int{0, 1, 2, 3, 4}},
		{"silent: one test after the other", silent, 7 * time.Second, []int{0, 2, 4, 6}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, tt.test)
				run(t, newClient(t, n, dnsclient.Options{}))
				if got := seconds(n, tt.lasts); !slices.Equal(got, tt.want) {
					t.Errorf("tested at %v s, want %v", got, tt.want)
				}
			})
		})
	}
	t.Run("a server that was silent to a query is tested at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := new(network)
			n.set(first, passes)
			c := newClient(t, n, dnsclient.Options{Attempts: 1})
			run(t, c)
			time.Sleep(10 * time.Second)
			n.set(first, nil)
			_, _ = c.Query(t.Context(), "a.test", dns.TypeTXT)
			time.Sleep(time.Second)
			synctest.Wait()
			if got := c.Servers()[0].Outcome; got != dnsclient.OutcomeSilent {
				t.Errorf("got %v, want silent", got)
			}
			n.set(first, passes)
			time.Sleep(2 * time.Second)
			n.seen()
			if got := seconds(n, 4*time.Minute); len(got) != 0 {
				t.Errorf("when it is back it was tested at %v s", got)
			}
		})
	})
	t.Run("one whose error a query met is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := new(network)
			n.set(first, tested(passes, rcode(dns.RcodeServerFailure)))
			c := newClient(t, n, dnsclient.Options{})
			run(t, c)
			time.Sleep(10 * time.Second)
			_, _ = c.Query(t.Context(), "a.test", dns.TypeTXT)
			n.seen()
			time.Sleep(10 * time.Second)
			if got := n.seen(); len(got) != 0 {
				t.Errorf("asked %v", got)
			}
		})
	})
}

func TestNewServersAreTested(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, passes)
		n.set(third, passes)
		write("nameserver 127.0.0.1\n")
		c := newClient(t, n, dnsclient.Options{ResolvConf: path, Servers: []string{}})
		run(t, c)
		state := func() string {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			var list []string
			for _, s := range c.Servers() {
				list = append(list, s.Addr.String()+" "+s.Outcome.String())
			}
			return strings.Join(list, ", ")
		}
		for _, tt := range []struct{ file, want, asked string }{
			{"nameserver 127.0.0.1\n", first + " passed", first},
			{"nameserver 127.0.0.1\nnameserver 192.0.2.3\n", first + " passed, " + third + " failed", third},
			{"nameserver 192.0.2.3\nnameserver 127.0.0.1\n", third + " failed, " + first + " passed", ""},
			{"nameserver 192.0.2.3\noptions trust-ad\n", third + " passed", third}, // It is another server now.
		} {
			write(tt.file)
			if got := state(); got != tt.want {
				t.Errorf("%q: got %s, want %s", tt.file, got, tt.want)
			}
			var asked []string
			for _, line := range n.seen() {
				asked = append(asked, strings.Fields(line)[0])
			}
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("%q: asked %s, want %s", tt.file, got, tt.asked)
			}
		}
	})
}

func TestValidatingWaitsForTheFirstTest(t *testing.T) {
	late := func(network string, q *dns.Msg) [][]byte {
		time.Sleep(1500 * time.Millisecond)
		return fails(network, q)
	}
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, tested(late, right))
		c := newClient(t, n, dnsclient.Options{})
		start := time.Now()
		if got := outcome(c.Query(t.Context(), "a.test", dns.TypeTXT)); !strings.Contains(got, "exists=true") || time.Since(start) != 0 {
			t.Errorf("a query: got %s after %v, want an answer at once", got, time.Since(start))
		}
		n.seen()

		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if !c.Validating(impatient) || time.Since(start) != time.Second {
			t.Errorf("one who waits a second: false, or after %v", time.Since(start))
		}
		if got := c.Servers()[0].Outcome; got != dnsclient.OutcomeUntested {
			t.Errorf("a test that was cut short: %v", got)
		}
		start = time.Now()
		answers := make(chan bool)
		for range 10 {
			go func() { answers <- c.Validating(t.Context()) }()
		}
		for range 10 {
			if <-answers || time.Since(start) != 1500*time.Millisecond {
				t.Errorf("those who wait: true, or after %v", time.Since(start))
			}
		}
		if got := n.seen(); len(got) != 2 {
			t.Errorf("asked %v, want two tests, the one cut short and the other", got)
		}
		start = time.Now()
		if c.Validating(t.Context()) || time.Since(start) != 0 || len(n.seen()) != 0 {
			t.Error("later: not answered at once by what is known")
		}
	})
}

// One server failed, and the test of the other is not over.
func TestWhatIsNotTestedYetMayValidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, silent)
		n.set(second, fails)
		c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 2 {
			if !c.Validating(impatient) {
				t.Errorf("got false, with %+v", c.Servers())
			}
		}
		if c.Validating(t.Context()) {
			t.Errorf("got true, with %+v", c.Servers())
		}
	})
}
