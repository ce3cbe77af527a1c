package mtasts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// chainOf is a record behind n aliases.
func chainOf(n int) string {
	var zone strings.Builder
	name := "_mta-sts.example.com."
	for i := range n {
		next := fmt.Sprintf("a%d.example.net.", i)
		fmt.Fprintf(&zone, "%s CNAME %s\n", name, next)
		name = next
	}
	return zone.String() + name + ` TXT "v=STSv1; id=1"`
}

func TestLook(t *testing.T) {
	roots := newAuthority(t, "Test Root").file(t)
	long := strings.Repeat("a", 60) + "."
	tests := []struct {
		name   string
		domain string
		zone   string
		fault  dnstest.Fault
		state  policy.RecordState
		wanted string
		detail string
		after  time.Duration // the next look
	}{
		{"a record", "", `_mta-sts.example.com. 120 TXT "v=STSv1; id=1"`, 0, policy.RecordFound, "1", "", 2 * time.Minute},
		{"in two strings", "", `_mta-sts.example.com. TXT "v=STSv1; i" "d=1"`, 0, policy.RecordFound, "1", "", 5 * time.Minute},
		{"among others", "", "_mta-sts.example.com. TXT \"spf\"\n_mta-sts.example.com. TXT \"v=STSv1;id=1;\"", 0, policy.RecordFound, "1", "", 5 * time.Minute},
		{"a tab before the delimiter", "", `_mta-sts.example.com. TXT "v=STSv1\009;\009id=1"`, 0, policy.RecordFound, "1", "", 5 * time.Minute},
		{"behind aliases", "", "_mta-sts.example.com. 60 CNAME x.example.net.\nx.example.net. 30 CNAME y.example.net.\ny.example.net. TXT \"v=STSv1; id=1\"", 0, policy.RecordFound, "1", "", 30 * time.Second},
		{"aliases that form a loop", "", "_mta-sts.example.com. CNAME x.example.net.\nx.example.net. CNAME _mta-sts.example.com.", 0, policy.RecordAbsent, "", "the aliases form a loop", time.Minute},
		{"an alias of itself", "", "_mta-sts.example.com. CNAME _mta-sts.example.com.", 0, policy.RecordAbsent, "", "the aliases form a loop", time.Minute},
		{"an alias of nothing", "", "_mta-sts.example.com. CNAME x.example.net.\nexample.net. 60 SOA ns root 1 1 1 1 20", 0, policy.RecordAbsent, "", "no TXT record", 20 * time.Second},
		{"too many aliases", "", chainOf(9), 0, policy.RecordFailed, "", "more than 8 aliases", time.Minute},
		{"none", "", "example.com. 60 SOA ns root 1 1 1 1 20\n", 0, policy.RecordAbsent, "", "no TXT record", 20 * time.Second},
		{"two", "", "_mta-sts.example.com. TXT \"v=STSv1; id=1\"\n_mta-sts.example.com. TXT \"v=STSv1; id=2\"", 0, policy.RecordAbsent, "", "more than one", 5 * time.Minute},
		{"not in ASCII", "", `_mta-sts.example.com. TXT "v=STSv1; id=1; x=\195\164"`, 0, policy.RecordAbsent, "", "TXT record", 5 * time.Minute},
		{"a backslash is not an escape twice", "", `_mta-sts.example.com. TXT "v=STSv1; id=1; x=\\195"`, 0, policy.RecordFound, "1", "", 5 * time.Minute},
		{"of the parent only", "mail.example.com", `_mta-sts.example.com. TXT "v=STSv1; id=1"`, 0, policy.RecordAbsent, "", "no TXT record", time.Minute},
		{"SERVFAIL", "", `_mta-sts.example.com. TXT "v=STSv1; id=1"`, dnstest.ServFail, policy.RecordFailed, "", "", time.Minute},
		{"refused", "", `_mta-sts.example.com. TXT "v=STSv1; id=1"`, dnstest.Refused, policy.RecordFailed, "", "", time.Minute},
		{"no answer", "", `_mta-sts.example.com. TXT "v=STSv1; id=1"`, dnstest.Drop, policy.RecordFailed, "", "", time.Minute},
		{"domain too long", long + long + long + long + "a", "x TXT x", 0, policy.RecordAbsent, "", "too long", time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zones := &dnstest.Resolver{}
				zones.SetZone(tt.zone + "\n")
				if tt.fault != 0 {
					zones.Fault(dnstest.Any, dnstest.Any, tt.fault)
				}
				r, err := New(Options{DNS: zones, CAFile: roots})
				if err != nil {
					t.Fatal(err)
				}
				domain := tt.domain
				if domain == "" {
					domain = "Example.COM."
				}
				got := r.Look(t.Context(), mustDomain(t, domain), policy.STS{})
				if got.Record != tt.state || got.Wanted != tt.wanted || !strings.Contains(got.Detail, tt.detail) {
					t.Errorf("got %v, wanted %q, detail %q", got.Record, got.Wanted, got.Detail)
				}
				if after := time.Until(got.Recheck); after != tt.after {
					t.Errorf("next look after %v, want %v", after, tt.after)
				}
				if printable(got.Detail) != len(got.Detail) || tt.state != policy.RecordFound && got.Detail == "" {
					t.Errorf("not a detail: %q", got.Detail)
				}
				for _, q := range zones.Queries() {
					if strings.Count(q.Name, ".") < 3 {
						t.Errorf("asked for %s", q.Name)
					}
				}
			})
		})
	}
}

func TestLookGivesUpWithItsContext(t *testing.T) {
	r, err := New(Options{DNS: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	prev := learned(24 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := r.Look(ctx, mustDomain(t, "example.com"), prev); got != prev {
		t.Errorf("cancelled: got %+v, want %+v", got, prev)
	}
	ctx, cancel = context.WithDeadline(t.Context(), t0)
	defer cancel()
	if got := r.Look(ctx, mustDomain(t, "example.com"), prev); got.Record != policy.RecordFailed || got.Policy != prev.Policy {
		t.Errorf("too late: got %+v", got)
	}
}

func TestLookReadsTXTRecordsOnly(t *testing.T) {
	odd := fixed{records: []dns.RR{&dns.A{}, &dns.TXT{Txt: []string{"v=STSv1; id=1"}}, &dns.TXT{}}}
	r, err := New(Options{DNS: odd})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Look(t.Context(), mustDomain(t, "example.com"), policy.STS{}); got.Wanted != "1" {
		t.Errorf("got %+v", got)
	}
}

// fixed is a DNS that gives the same answer to every question.
type fixed struct {
	records []dns.RR
	err     error
}

func (f fixed) Query(context.Context, string, uint16) (dnsclient.Answer, error) {
	return dnsclient.Answer{Records: f.records, TTL: time.Minute}, f.err
}

func TestFetchWithoutARecordFetchesNothing(t *testing.T) {
	r, err := New(Options{DNS: fixed{err: errors.New("asked")}})
	if err != nil {
		t.Fatal(err)
	}
	prev := policy.STS{Record: policy.RecordAbsent, Lost: true}
	if got := r.Fetch(t.Context(), mustDomain(t, "example.com"), prev); got != prev {
		t.Errorf("got %+v", got)
	}
}

// counter counts fetches by result.
type counter struct {
	mu   sync.Mutex // guards seen
	seen map[string]int
}

func (c *counter) Fetched(result string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[result]++
}

// TestLifeOfAPolicy follows a domain by look and fetch as the cache would,
// with a host that comes and goes.
func TestLifeOfAPolicy(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	cert := ca.leaf(t, nil, "mta-sts.example.com")
	synctest.Test(t, func(t *testing.T) {
		text := goodPolicy
		serve := overTLS(cert, func(c net.Conn) {
			readRequest(c)
			say(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"+text)
			c.Close()
		})
		count := &counter{seen: make(map[string]int)}
		r, zones := newInMemory(t, ca, func(o *Options) {
			o.Dial, o.Metrics, o.Refresh = pipes(t, serve), count, 24*time.Hour
		})
		d := mustDomain(t, "example.com")

		s := r.Look(t.Context(), d, policy.STS{})
		s = r.Fetch(t.Context(), d, s)
		if !s.Enforces(time.Now()) || s.ID != "1" {
			t.Fatalf("first fetch: %+v", s)
		}
		first := s.Fetched

		// Nothing answers: the policy holds, and is not prolonged.
		zones.Fault(dnstest.Any, dnstest.Any, dnstest.ServFail)
		time.Sleep(12 * time.Hour)
		s = r.Look(t.Context(), d, s)
		if s.Record != policy.RecordFailed || s.Wanted != "" || !s.Enforces(time.Now()) {
			t.Errorf("DNS dead: %+v", s)
		}
		s = r.Fetch(t.Context(), d, s)
		if s.Failure.Kind != "dns" || !s.Enforces(time.Now()) || !s.Fetched.Equal(first) {
			t.Errorf("refresh with the DNS dead: %+v", s)
		}

		// The record is gone, the host is well: a refresh prolongs.
		zones.ClearFaults()
		zones.SetZone(hostZone)
		s = r.Look(t.Context(), d, s)
		if s.Record != policy.RecordAbsent || s.Wanted != "" || !s.Enforces(time.Now()) || !s.Fetched.Equal(first) {
			t.Errorf("record gone: %+v", s)
		}
		s = r.Fetch(t.Context(), d, s)
		if s.Failure.Kind != "" || !s.Fetched.Equal(time.Now()) || s.ID != "1" {
			t.Errorf("refresh without a record: %+v", s)
		}

		// Another id with a file that is no policy, then with none.
		zones.SetZone(hostZone + `_mta-sts.example.com. TXT "v=STSv1; id=2"` + "\n")
		text = "<html>"
		time.Sleep(time.Hour)
		s = r.Fetch(t.Context(), d, r.Look(t.Context(), d, s))
		if s.Failure.Kind != "syntax" || s.Failure.ID != "2" || !s.Enforces(time.Now()) {
			t.Errorf("changed to garbage: %+v", s)
		}
		text = "version: STSv1\nmode: none\nmax_age: 86400\n"
		time.Sleep(5 * time.Minute)
		s = r.Fetch(t.Context(), d, r.Look(t.Context(), d, s))
		if s.Policy.Mode != policy.ModeNone || s.ID != "2" || s.Enforces(time.Now()) {
			t.Errorf("changed to none: %+v", s)
		}
		want := map[string]int{"ok": 3, "dns": 1, "syntax": 1}
		if !maps.Equal(count.seen, want) {
			t.Errorf("counted %v, want %v", count.seen, want)
		}
	})
}

// TestNothingEndsAPolicyInForce tries every failure of the DNS with every
// failure of the policy host (RFC 8461, section 3.3).
func TestNothingEndsAPolicyInForce(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	cert, bad := ca.leaf(t, nil, "mta-sts.example.com"), selfSigned(t, "mta-sts.example.com")
	reply := func(s string) func(net.Conn) {
		return overTLS(cert, func(c net.Conn) {
			readRequest(c)
			say(c, s)
			c.Close()
		})
	}
	zone := func(text string) func(*dnstest.Resolver) {
		return func(z *dnstest.Resolver) { z.SetZone(hostZone + text) }
	}
	records := map[string]func(*dnstest.Resolver){
		"NXDOMAIN":    zone(""),
		"SERVFAIL":    func(z *dnstest.Resolver) { z.Fault("_mta-sts.example.com", dnstest.Any, dnstest.ServFail) },
		"two records": zone("_mta-sts.example.com. TXT \"v=STSv1; id=2\"\n_mta-sts.example.com. TXT \"v=STSv1; id=3\"\n"),
		"garbage":     zone("_mta-sts.example.com. TXT \"v=STSv1; id=-\"\n"),
		"another id":  zone("_mta-sts.example.com. TXT \"v=STSv1; id=2\"\n"),
	}
	hosts := map[string]func(net.Conn){
		"gone":            func(net.Conn) {},
		"404":             reply("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
		"bad certificate": overTLS(bad, hang),
		"bad file":        reply("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n<html>"),
	}
	for record, breakDNS := range records {
		for host, serve := range hosts {
			t.Run(record+", "+host, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, zones := newInMemory(t, ca, func(o *Options) { o.Dial = pipes(t, serve) })
					breakDNS(zones)
					prev := learned(7 * 24 * time.Hour)
					prev.Fetched = time.Now()
					time.Sleep(time.Hour)
					s := r.Look(t.Context(), mustDomain(t, "example.com"), prev)
					if fetch := record == "another id"; (s.Wanted != "") != fetch {
						t.Errorf("wanted %q", s.Wanted)
					}
					s = r.Fetch(t.Context(), mustDomain(t, "example.com"), s)
					if s.Failure.Kind == "" || s.Policy != prev.Policy || s.ID != "A" || !s.Fetched.Equal(prev.Fetched) || !s.Enforces(time.Now()) {
						t.Errorf("got %+v", s)
					}
					if end := prev.Fetched.Add(7 * 24 * time.Hour); !s.Enforces(end.Add(-1)) || s.Enforces(end) {
						t.Errorf("the policy does not end when it should")
					}
				})
			})
		}
	}
}

func TestOneLine(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""}, {"plain text", "plain text"}, {"two\nlines\r\n", `two\nlines\r\n`}, {"\x00\x1b[1m", `\x00\x1b[1m`},
		{"ä", `\xc3\xa4`}, {"\x7f", `\x7f`}, {`"quoted\n"`, `"quoted\n"`},
		{strings.Repeat("x", maxReason), strings.Repeat("x", maxReason)},
		{strings.Repeat("x", maxReason+1), strings.Repeat("x", maxReason-3) + "..."},
	}
	for _, tt := range tests {
		if got := oneLine(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNewWantsADNS(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Errorf("it is content without")
	}
}
