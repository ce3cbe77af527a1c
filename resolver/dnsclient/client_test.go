package dnsclient_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

// counted is a Metrics that remembers.
type counted struct {
	mu   sync.Mutex
	done []string
}

func (c *counted) QueryDone(qtype, result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, qtype+" "+result)
}

func (c *counted) Validating(on int) {
	c.QueryDone("validating", strconv.Itoa(on))
}

// last is what was counted last.
func (c *counted) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[len(c.done)-1]
}

func TestTheCallersTime(t *testing.T) {
	tests := []struct {
		what string
		end  func(ctx context.Context) (context.Context, context.CancelFunc)
		want string
	}{
		{"cancelled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(3*time.Second, cancel)
			return ctx, cancel
		}, "canceled " + first},
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 3*time.Second)
		}, "timeout " + first},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := new(network)
				n.set(first, silent)
				c := newClient(t, n, dnsclient.Options{})
				ctx, cancel := tt.end(t.Context())
				defer cancel()
				start := time.Now()
				if got := outcome(c.Query(ctx, "a.test", dns.TypeA)); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if took := time.Since(start); took != 3*time.Second {
					t.Errorf("took %v, want 3s", took)
				}
				n.seen()
				if got := outcome(c.Query(ctx, "a.test", dns.TypeA)); got != strings.Fields(tt.want)[0] {
					t.Errorf("once it is over: got %s", got)
				}
				if got := n.seen(); len(got) != 0 {
					t.Errorf("once it is over: asked %v", got)
				}
			})
		})
	}
}

func TestQueriesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, silent)
		var mu sync.Mutex
		open, most := 0, 0
		o := dnsclient.Options{MaxInFlight: 3, Attempts: 1, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := n.dial(ctx, network, addr)
			mu.Lock()
			defer mu.Unlock()
			open++
			most = max(most, open)
			return &countedConn{Conn: conn, closed: func() { mu.Lock(); open--; mu.Unlock() }}, err
		}}
		c := newClient(t, n, o)
		var queries sync.WaitGroup
		for range 9 {
			queries.Go(func() {
				if got, want := outcome(c.Query(t.Context(), "a.test", dns.TypeA)), "timeout "+first; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if got := outcome(c.Query(ctx, "b.test", dns.TypeA)); got != "timeout" {
			t.Errorf("without a slot: got %s, want a time-out without a server", got)
		}
		queries.Wait()
		if most != 3 || open != 0 {
			t.Errorf("%d connections at once, %d left, want 3 and 0", most, open)
		}
		for _, line := range n.seen() {
			if strings.Contains(line, "b.test") {
				t.Error("a query without a slot was sent")
			}
		}
	})
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func TestNamesThatAreNone(t *testing.T) {
	n := new(network)
	c := newClient(t, n, dnsclient.Options{})
	for _, name := range []string{"", "a..b", ".a", strings.Repeat("a", 64) + ".test", strings.Repeat("abcdefg.", 32)} {
		if got := outcome(c.Query(t.Context(), name, dns.TypeTXT)); got != "name" {
			t.Errorf("%q: got %s, want name", name, got)
		}
	}
	if got := n.seen(); len(got) != 0 {
		t.Errorf("asked %v", got)
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, m := new(network), new(counted)
		c := newClient(t, n, dnsclient.Options{Metrics: m, Attempts: 1})
		ask := func(s script, name string, qtype uint16) {
			n.set(first, s)
			_, _ = c.Query(t.Context(), name, qtype) // Only counted.
		}
		ask(right, "a.test", dns.TypeA)
		ask(right, "a.test", dns.TypeTXT)
		ask(rcode(dns.RcodeNameError), "a.test", dns.TypeTLSA)
		ask(rcode(dns.RcodeServerFailure), "a.test", dns.TypeMX)
		ask(silent, "a.test", dns.TypeAAAA)
		ask(nil, "a.test", dns.TypeNS)
		ask(rcode(dns.RcodeRefused), "a.test", dns.TypeHTTPS)
		ask(right, "", dns.TypeCNAME)
		want := []string{"A ok", "TXT nodata", "TLSA nxdomain", "MX servfail", "AAAA timeout", "NS network", "other refused", "CNAME name"}
		if !slices.Equal(m.done, want) {
			t.Errorf("got %q, want %q", m.done, want)
		}
	})
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		n.set(first, says(func(m *dns.Msg) {
			m.Answer, m.Rcode = nil, dns.RcodeServerFailure
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus, ExtraText: "x\ny"}}
		}))
		c := newClient(t, n, dnsclient.Options{})
		_, err := c.Query(t.Context(), "a\nb.test", dns.TypeTXT)
		want := `dns: TXT "a\\010b.test." at 127.0.0.1:53: SERVFAIL (DNSSEC Bogus)`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		n.set(first, nil)
		_, err = c.Query(t.Context(), "a.test", dns.TypeTXT)
		want = `dns: TXT "a.test." at 127.0.0.1:53: connect: connection refused`
		if err == nil || err.Error() != want || !errors.Is(err, errDead) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		_, err = c.Query(t.Context(), "a..test", dns.TypeTXT)
		want = `dns: TXT "a..test": not a name that the DNS can hold`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}

func TestOptionsThatAreWrong(t *testing.T) {
	for reason, o := range map[string]dnsclient.Options{
		"no address":         {Servers: []string{first, "dns.example"}},
		"negative time-out":  {Servers: []string{first}, Timeout: -1},
		"negative attempts":  {Servers: []string{first}, Attempts: -1},
		"negative in flight": {Servers: []string{first}, MaxInFlight: -1},
	} {
		if _, err := dnsclient.New(o); err == nil {
			t.Errorf("%s: no error", reason)
		}
	}
	_, err := dnsclient.New(dnsclient.Options{Servers: []string{"dns.example"}})
	if !errors.Is(err, dnsclient.ErrServer) {
		t.Errorf("got %v, want ErrServer", err)
	}
}
