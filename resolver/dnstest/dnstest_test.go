package dnstest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
)

const zones = `
	; The world of most tests.
	$SECURE example.com  signed.example
	$INSECURE plain.example.com
	$ORIGIN example.com.
	@            SOA ns root 1 60 60 60 30
	@            MX 10 mx
	@            MX 20 mx2
	mx           120 A 192.0.2.1
	www          CNAME mx
	out          60 CNAME other.example.net.
	plain        A 192.0.2.2
	a.b.c        A 192.0.2.3
	*.wild       TXT "any"
	loop         CNAME loop2
	loop2        CNAME loop
	big          TXT "` + longText + `" "` + longText + `" "` + longText + `" "` + longText + `" "` + longText + `" "` + longText + `"
	other.example.net.  30 A 192.0.2.4
`

const longText = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" +
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

type querier interface {
	Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error)
}

// both runs a test with a server on a socket and with one in memory.
func both(t *testing.T, run func(t *testing.T, z *dnstest.Zones, c querier)) {
	t.Run("socket", func(t *testing.T) {
		srv := dnstest.Start(t, zones)
		c, err := dnsclient.New(dnsclient.Options{Servers: []string{srv.Addr()}, Timeout: 300 * time.Millisecond, Attempts: 2})
		if err != nil {
			t.Fatal(err)
		}
		run(t, &srv.Zones, c)
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := new(dnstest.Resolver)
			r.SetZone(zones)
			run(t, &r.Zones, r)
		})
	})
}

// show makes one line of an answer: end of the chain, existence, security,
// TTL, data.
func show(a dnsclient.Answer, err error) string {
	var e *dnsclient.Error
	if errors.As(err, &e) {
		return "error: " + e.Result()
	}
	s := fmt.Sprintf("%s exists=%v secure=%v ttl=%v", a.Name, a.Exists, a.Security == dnsclient.Secure, a.TTL)
	for _, rr := range a.Records {
		s += " [" + strings.TrimPrefix(rr.String(), rr.Header().String()) + "]"
	}
	return s
}

func TestAnswers(t *testing.T) {
	tests := []struct{ what, name, qtype, want string }{
		{"records", "example.com", "MX", "example.com. exists=true secure=true ttl=5m0s [10 mx.example.com.] [20 mx2.example.com.]"},
		{"any case", "MX.Example.COM.", "A", "mx.example.com. exists=true secure=true ttl=2m0s [192.0.2.1]"},
		{"alias", "www.example.com", "A", "mx.example.com. exists=true secure=true ttl=2m0s [192.0.2.1]"},
		{"alias into an insecure zone", "out.example.com", "A", "other.example.net. exists=true secure=false ttl=30s [192.0.2.4]"},
		{"the alias itself", "out.example.com", "CNAME", "out.example.com. exists=true secure=true ttl=1m0s [other.example.net.]"},
		{"alias to no records", "www.example.com", "AAAA", "mx.example.com. exists=true secure=true ttl=30s"},
		{"insecure below secure", "plain.example.com", "A", "plain.example.com. exists=true secure=false ttl=5m0s [192.0.2.2]"},
		{"nodata", "mx.example.com", "TLSA", "mx.example.com. exists=true secure=true ttl=30s"},
		{"empty non-terminal", "b.c.example.com", "A", "b.c.example.com. exists=true secure=true ttl=30s"},
		{"nxdomain", "no.example.com", "A", "no.example.com. exists=false secure=true ttl=30s"},
		{"nxdomain outside of all zones", "nowhere.test", "A", "nowhere.test. exists=false secure=false ttl=1m0s"},
		{"wildcard", "x.y.wild.example.com", "TXT", `x.y.wild.example.com. exists=true secure=true ttl=5m0s ["any"]`},
		{"the wildcard's parent", "wild.example.com", "TXT", "wild.example.com. exists=true secure=true ttl=30s"},
		{"loop", "loop.example.com", "A", "error: loop"},
		{"too large for UDP", "big.example.com", "TXT", "big.example.com. exists=true secure=true ttl=5m0s [" +
			strings.TrimSuffix(strings.Repeat(`"`+longText+`" `, 6), " ") + "]"},
	}
	both(t, func(t *testing.T, _ *dnstest.Zones, c querier) {
		for _, tt := range tests {
			if got := show(c.Query(t.Context(), tt.name, dns.StringToType[tt.qtype])); got != tt.want {
				t.Errorf("%s: %s %s:\n got %s\nwant %s", tt.what, tt.name, tt.qtype, got, tt.want)
			}
		}
	})
}

func TestFaults(t *testing.T) {
	const right = "www.example.com: mx.example.com. exists=true secure=true ttl=2m0s [192.0.2.1]"
	tests := []struct {
		what   string
		faults []dnstest.Fault
		want   string
		asked  int
	}{
		{"none", nil, right, 1},
		{"servfail", []dnstest.Fault{dnstest.ServFail}, "www.example.com: error: servfail", 1},
		{"refused", []dnstest.Fault{dnstest.Refused}, "www.example.com: error: refused", 1},
		{"dropped", []dnstest.Fault{dnstest.Drop}, "www.example.com: error: timeout", -1},
		{"without AD", []dnstest.Fault{dnstest.NoAD}, "www.example.com: mx.example.com. exists=true secure=false ttl=2m0s [192.0.2.1]", 1},
		{"nodata", []dnstest.Fault{dnstest.NoData}, "www.example.com: www.example.com. exists=true secure=true ttl=30s", 1},
		{"nxdomain", []dnstest.Fault{dnstest.NXDomain}, "www.example.com: www.example.com. exists=false secure=true ttl=30s", 1},
		{"malformed", []dnstest.Fault{dnstest.Malformed}, "www.example.com: error: malformed", -1},
		{"forged first", []dnstest.Fault{dnstest.ForgedFirst}, right, 1},
		{"truncated", []dnstest.Fault{dnstest.Truncated}, right, 2},
		{"alias only", []dnstest.Fault{dnstest.AliasOnly}, right, 1},
		{"two at once", []dnstest.Fault{dnstest.NXDomain, dnstest.NoAD}, "www.example.com: www.example.com. exists=false secure=false ttl=30s", 1},
	}
	both(t, func(t *testing.T, z *dnstest.Zones, c querier) {
		for _, tt := range tests {
			z.Reset()
			z.Fault("WWW.example.com", "A", tt.faults...)
			if got := "www.example.com: " + show(c.Query(t.Context(), "www.example.com", dns.TypeA)); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.what, got, tt.want)
			}
			if got := z.CountName("www.example.com", "A"); got != tt.asked && (tt.asked >= 0 || got < 2) {
				t.Errorf("%s: asked %d times, want %d", tt.what, got, tt.asked)
			}
		}
	})
}

func TestFaultsOfAny(t *testing.T) {
	both(t, func(t *testing.T, z *dnstest.Zones, c querier) {
		z.Fault(dnstest.Any, dnstest.Any, dnstest.ServFail)
		z.Fault("mx.example.com", dnstest.Any)
		z.Fault("mx.example.com", "AAAA", dnstest.Refused)
		for _, tt := range []struct{ name, qtype, want string }{
			{"example.com", "MX", "error: servfail"},
			{"mx.example.com", "A", "mx.example.com. exists=true secure=true ttl=2m0s [192.0.2.1]"},
			{"mx.example.com", "AAAA", "error: refused"},
		} {
			if got := show(c.Query(t.Context(), tt.name, dns.StringToType[tt.qtype])); got != tt.want {
				t.Errorf("%s %s: got %s, want %s", tt.name, tt.qtype, got, tt.want)
			}
		}
		z.ClearFaults()
		if got := show(c.Query(t.Context(), "mx.example.com", dns.TypeAAAA)); got != "mx.example.com. exists=true secure=true ttl=30s" {
			t.Errorf("after ClearFaults: got %s", got)
		}
	})
}

func TestDelayPassesInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r dnstest.Resolver
		r.SetZone(zones)
		r.Delay("mx.example.com", "A", 1500*time.Millisecond)
		start := time.Now()
		if _, err := r.Query(t.Context(), "mx.example.com", dns.TypeA); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != 1500*time.Millisecond {
			t.Errorf("answered after %v, want 1.5s", got)
		}
		r.Delay("mx.example.com", "A", time.Hour)
		start = time.Now()
		if got := show(r.Query(t.Context(), "mx.example.com", dns.TypeA)); got != "error: timeout" {
			t.Errorf("got %s, want a time-out", got)
		}
		if got := time.Since(start); got != 6*time.Second {
			t.Errorf("gave up after %v, want 6s", got)
		}
	})
}

func TestQueriesAreInOrder(t *testing.T) {
	both(t, func(t *testing.T, z *dnstest.Zones, c querier) {
		z.Fault("out.example.com", "A", dnstest.AliasOnly)
		for _, name := range []string{"mx.example.com", "Out.example.com"} {
			if _, err := c.Query(t.Context(), name, dns.TypeA); err != nil {
				t.Fatal(err)
			}
		}
		want := []dnstest.Question{{"mx.example.com.", "A"}, {"out.example.com.", "A"}, {"other.example.net.", "A"}}
		if got := z.Queries(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := z.Count("A"); got != 3 {
			t.Errorf("counted %d questions for A, want 3", got)
		}
		if got := z.Count("MX"); got != 0 {
			t.Errorf("counted %d questions for MX, want 0", got)
		}
		z.Reset()
		if got := z.Count(dnstest.Any); got != 0 || len(z.Queries()) != 0 {
			t.Errorf("after Reset: counted %d", got)
		}
	})
}

func TestZonesAreReplacedWhileRunning(t *testing.T) {
	both(t, func(t *testing.T, z *dnstest.Zones, c querier) {
		z.SetZone("new.example. 10 TXT \"now\"")
		if got, want := show(c.Query(t.Context(), "new.example", dns.TypeTXT)), `new.example. exists=true secure=false ttl=10s ["now"]`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := z.Load("broken. TXT ("); err == nil {
			t.Error("a broken zone was taken")
		}
		if err := z.Load("$SECURE a..b"); err == nil {
			t.Error("a broken name was taken")
		}
		if got := show(c.Query(t.Context(), "mx.example.com", dns.TypeA)); got != "mx.example.com. exists=false secure=false ttl=1m0s" {
			t.Errorf("what was there before: got %s", got)
		}
		if got := show(c.Query(t.Context(), "new.example", dns.TypeTXT)); !strings.Contains(got, "now") {
			t.Errorf("after a broken zone: got %s", got)
		}
	})
}

func TestZeroResolverKnowsNothing(t *testing.T) {
	var r dnstest.Resolver
	if got, want := show(r.Query(t.Context(), "example.com", dns.TypeMX)), "example.com. exists=false secure=false ttl=1m0s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestListen(t *testing.T) {
	srv, err := dnstest.Listen("127.0.0.1:0", zones)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dnstest.Listen(srv.Addr(), zones); err == nil {
		t.Error("two servers on one address")
	}
	if err := errors.Join(srv.Close(), srv.Close()); err != nil {
		t.Errorf("close: %v", err)
	}
	packets, err := net.ListenPacket("udp", srv.Addr())
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	if err := packets.Close(); err != nil {
		t.Error(err)
	}
	if _, err := dnstest.Listen("127.0.0.1:0", "broken. TXT ("); err == nil {
		t.Error("a broken zone was taken")
	}
	if _, err := dnstest.Listen("nowhere:x", zones); err == nil {
		t.Error("a broken address was taken")
	}
}

func TestSmallDatagramsForClientsWithoutEDNS(t *testing.T) {
	srv := dnstest.Start(t, "a.test. TXT \""+longText+"\" \""+longText+"\" \""+longText+"\"")
	for size, want := range map[uint16]bool{0: true, 1232: false} {
		q := new(dns.Msg).SetQuestion("a.test.", dns.TypeTXT)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		m, _, err := new(dns.Client).Exchange(q, srv.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if m.Truncated != want {
			t.Errorf("size %d: truncated %v, want %v", size, m.Truncated, want)
		}
	}
}

func TestWrongTypePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown type was taken")
		}
	}()
	new(dnstest.Zones).Count("MXX")
}
