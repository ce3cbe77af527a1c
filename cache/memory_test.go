package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/resolver/policy"
)

// brokenDue is a store whose index cannot be read.
type brokenDue struct{ *world }

func (brokenDue) Due(context.Context, time.Time, int) ([]policy.Domain, error) {
	return nil, errors.New("no index")
}

// instant is a network that answers at once and counts nothing: only domains
// of example.com have a policy.
type instant struct{ policy *policy.STSPolicy }

func (n instant) Look(_ context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	now := time.Now()
	prev.Looked, prev.Recheck, prev.Record = now, now.Add(time.Hour), policy.RecordAbsent
	if strings.HasSuffix(domain.String(), ".example.com") {
		prev.Record, prev.Wanted = policy.RecordFound, "1"
	}
	return prev
}

func (n instant) Adopt(prev policy.STS, _ *policy.STSPolicy, _ string, _ time.Time) policy.STS {
	return prev
}

func (n instant) Fetch(_ context.Context, _ policy.Domain, prev policy.STS) policy.STS {
	prev.Policy, prev.Fetched, prev.ID, prev.Wanted = n.policy, time.Now(), prev.Wanted, ""
	return prev
}

func (instant) DANE(_ context.Context, _ policy.NextHop, _ policy.DANE) policy.DANE {
	now := time.Now()
	return policy.DANE{MX: policy.MXInsecure, Learned: now, Expires: now.Add(time.Hour)}
}

func newInstant(tb testing.TB, memory int) *Cache {
	tb.Helper()
	p, err := parseTest(enforce)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := New(Options{Store: newWorld(), Resolver: instant{p}, Parse: parseTest, Memory: memory})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return c
}

func lookup(tb testing.TB, c *Cache, name string) {
	tb.Helper()
	c.Lookup(tb.Context(), time.Now(), policy.NextHop{Domain: dom(tb, name), Port: 25}, policy.ClassDANE)
}

func TestJunkDrivesOutNoPolicy(t *testing.T) {
	const policies, junk, memory = 500, 30_000, 1000
	c := newInstant(t, memory)
	for i := range policies {
		lookup(t, c, fmt.Sprintf("d%d.example.com", i))
	}
	for i := range junk {
		lookup(t, c, fmt.Sprintf("d%d.example.net", i))
	}
	if n := c.Entries(); n.Policies != policies || n.Absences != memory {
		t.Errorf("got %+v, want %d policies and %d absences", n, policies, memory)
	}
	if len(c.flights) != 0 || len(c.lookingUp) != 0 || c.running != 0 {
		t.Errorf("%d flights, %d lookups, %d running", len(c.flights), len(c.lookingUp), c.running)
	}
}

func TestMemoryIsBoundedByTheSizeOfWhatIsInIt(t *testing.T) {
	long := " " + strings.Repeat("m", 60) + ".example.com"
	many := policy.DANE{MX: policy.MXSecure, Expires: time.Now().Add(time.Hour)}
	for range 20 {
		many.Hosts = append(many.Hosts, policy.MXHost{Name: strings.Repeat("h.", 120) + "com", Detail: strings.Repeat("d", 700)})
	}
	for _, test := range []struct {
		name               string
		text               string
		dane               policy.DANE
		policies, absences int
	}{
		{"policies with a long text", "enforce 2h" + strings.Repeat(long, 220), policy.DANE{}, 100 * bytesPerPolicy / 40_000, 0},
		{"policies with many patterns", "enforce 2h" + strings.Repeat(" a.b", 4000), policy.DANE{}, 100 * bytesPerPolicy / 160_000, 0},
		{"policies that end at once", "enforce 0s" + strings.Repeat(long, 220), policy.DANE{}, 0, 100 * bytesPerAbsence / 40_000},
		{"many hosts", "enforce 0s", many, 0, 100 * bytesPerAbsence / 20_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := newMemory(100)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parseTest(test.text)
			if err != nil {
				t.Fatal(err)
			}
			then := time.Now()
			now := then.Add(time.Second)
			for i := range 200 {
				e := (&entry{}).withSTS(now, &policy.STS{Policy: p, Fetched: then}, &use{})
				hop := policy.NextHop{Domain: dom(t, fmt.Sprintf("d%d.example", i))}
				m.put(now, hop.Domain, e)
				m.put(now, hop.Domain, e.withHop(now, hop, test.dane))
			}
			policies, absences := m.len()
			if policies > test.policies || absences > test.absences || policies+absences == 0 {
				t.Errorf("%d policies and %d absences in memory, want at most %d and %d", policies, absences, test.policies, test.absences)
			}
			for _, d := range m.domains() {
				m.remove(d)
			}
			if m.policies.bytes != 0 || m.absences.bytes != 0 {
				t.Errorf("%d and %d bytes of nothing", m.policies.bytes, m.absences.bytes)
			}
		})
	}
}

func TestWhatTheStoreWouldNotTakeIsBounded(t *testing.T) {
	c := newInstant(t, 1)
	big, err := parseTest(enforce + strings.Repeat(" mx.example.net", 4000))
	if err != nil {
		t.Fatal(err)
	}
	domain := func(i int) policy.Domain { return dom(t, fmt.Sprintf("d%d.example", i)) }
	for _, p := range []*policy.STSPolicy{{Text: "small"}, big, {Text: "small"}} {
		for i := range 2 * maxUnwritten {
			c.mark(domain(i), unwritten{fact: &policy.STS{Policy: p}})
		}
		if n := len(c.unwritten); n == 0 || n > maxUnwritten || c.unwrittenBytes > maxUnwrittenBytes {
			t.Errorf("%d bytes of %d records", c.unwrittenBytes, n)
		}
	}
	for i := range 2 * maxUnwritten {
		c.drop(domain(i))
	}
	if c.unwrittenBytes != 0 {
		t.Errorf("%d bytes of nothing", c.unwrittenBytes)
	}
}

func TestNewNeedsAStoreAResolverAndAParser(t *testing.T) {
	w := newWorld()
	for _, o := range []Options{
		{Resolver: w, Parse: parseTest}, {Store: w, Parse: parseTest}, {Store: w, Resolver: w},
	} {
		if c, err := New(o); err == nil {
			t.Errorf("accepted %+v: %v", o, c)
		}
	}
}

func TestChanges(t *testing.T) {
	tests := []struct{ from, to, want, level string }{
		{"", "enforce 24h mx.example.com", ChangeNew, "info"},
		{"", "none 24h", ChangeNew, "info"},
		{"testing 24h mx.example.com", "enforce 1h mx.example.com", ChangeStronger, "info"},
		{"none 24h", "testing 24h mx.example.com", ChangeStronger, "info"},
		{"enforce 24h mx.example.com", "testing 48h mx.example.com", ChangeWeaker, "warn"},
		{"enforce 24h mx.example.com", "enforce 23h mx.example.com", ChangeWeaker, "warn"},
		{"enforce 24h mx.example.com", "none 24h", ChangeRemoved, "warn"},
		{"testing 24h mx.example.com", "none 24h", ChangeRemoved, "info"},
		{"enforce 24h mx.example.com", "enforce 25h mx.example.com", ChangeOther, "info"},
		{"enforce 24h mx.example.com", "enforce 24h mx2.example.com", ChangeOther, "info"},
		{"enforce 24h mx.example.com", "enforce  24h mx.example.com", "", ""},
		{"none 24h", "none 24h", "", ""},
	}
	for _, test := range tests {
		core, logs := observer.New(zap.InfoLevel)
		n := &counts{}
		c := &Cache{log: zap.New(core), metrics: n, expiring: make(map[policy.Domain]time.Time)}
		var prev, next policy.STS
		now := time.Now()
		if test.from != "" {
			prev.Policy, _ = parseTest(test.from)
			prev.Fetched = now.Add(-time.Minute)
		}
		next.Policy, _ = parseTest(test.to)
		next.Fetched = now
		c.tellChange(dom(t, "example.com"), &prev, &next)
		if test.want == "" {
			if len(n.n) != 0 || logs.Len() != 0 {
				t.Errorf("%q to %q: counted %v, logged %v", test.from, test.to, n.n, logs.All())
			}
			continue
		}
		n.want(t, "change "+test.want, 1)
		if logs.Len() != 1 || logs.All()[0].Level.String() != test.level {
			t.Errorf("%q to %q: logged %v, want one at %s", test.from, test.to, logs.All(), test.level)
		}
	}
}

func TestExpiredPolicyIsReplacedByANewOne(t *testing.T) {
	now := time.Now()
	prev := policy.STS{Fetched: now.Add(-time.Hour)}
	next := policy.STS{Fetched: now}
	prev.Policy, _ = parseTest("enforce 30m mx.example.com")
	next.Policy, _ = parseTest("testing 30m mx.example.com")
	if got := changeOf(now, &prev, &next); got != ChangeNew {
		t.Errorf("got %q, want %q", got, ChangeNew)
	}
}

func TestFailingRefreshesAreWarnedAboutOnceFromHalfLife(t *testing.T) {
	tests := []struct {
		name, text string
		age        time.Duration
		failed     bool
		want       int
	}{
		{"past half life", "enforce 24h mx.example.com", 13 * time.Hour, true, 1},
		{"testing too", "testing 24h mx.example.com", 12 * time.Hour, true, 1},
		{"before half life", "enforce 24h mx.example.com", 11 * time.Hour, true, 0},
		{"not failing", "enforce 24h mx.example.com", 13 * time.Hour, false, 0},
		{"expired", "enforce 24h mx.example.com", 25 * time.Hour, true, 0},
		{"mode none", "none 24h", 13 * time.Hour, true, 0},
	}
	for _, test := range tests {
		core, logs := observer.New(zap.WarnLevel)
		c := &Cache{log: zap.New(core), expiring: make(map[policy.Domain]time.Time)}
		now := time.Now()
		sts := policy.STS{Fetched: now.Add(-test.age)}
		sts.Policy, _ = parseTest(test.text)
		if test.failed {
			sts.Failure = policy.Failure{At: now, Count: 3, Reason: "HTTP status 404"}
		}
		for range 3 {
			c.watch(now, dom(t, "example.com"), &sts)
		}
		if logs.Len() != test.want || len(c.expiring) != test.want {
			t.Errorf("%s: %d warnings, %d watched, want %d", test.name, logs.Len(), len(c.expiring), test.want)
		}
	}
}

func TestTroublesOfTheStoreAreLoggedOnceAMinute(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		core, logs := observer.New(zap.ErrorLevel)
		w.saveErr = errors.New("no space")
		r := start(t, w, Options{Log: zap.New(core)})
		defer r.stop()
		for i := range 100 {
			name := fmt.Sprintf("d%d.example", i)
			w.publish(name, site{id: "1", text: enforce})
			r.want(name, policy.Secure, 0)
		}
		r.counts.want(t, "store save", 100)
		if logs.Len() != 1 {
			t.Errorf("%d lines, want 1", logs.Len())
		}
	})
}

func BenchmarkLookupHit(b *testing.B) {
	for name, class := range map[string]policy.Class{"STSOnly": policy.ClassSTSOnly, "STS": policy.ClassSTS} {
		for _, domain := range []string{"a.example.com", "a.example.net"} {
			b.Run(name+"/"+domain, func(b *testing.B) {
				c := newInstant(b, 1000)
				hop := policy.NextHop{Domain: dom(b, domain), Port: 25}
				ctx := b.Context()
				c.Lookup(ctx, time.Now(), hop, class)
				b.ReportAllocs()
				for b.Loop() {
					c.Lookup(ctx, time.Now(), hop, class)
				}
			})
		}
	}
}

func BenchmarkLookupHitParallel(b *testing.B) {
	c := newInstant(b, 1000)
	hop := policy.NextHop{Domain: dom(b, "a.example.com"), Port: 25}
	c.Lookup(b.Context(), time.Now(), hop, policy.ClassSTS)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Lookup(context.Background(), time.Now(), hop, policy.ClassSTS)
		}
	})
}

func BenchmarkLookupMiss(b *testing.B) {
	c := newInstant(b, 1000)
	domains := make([]policy.Domain, 100_000)
	for i := range domains {
		domains[i] = dom(b, fmt.Sprintf("d%d.example.net", i))
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		c.Lookup(b.Context(), time.Now(), policy.NextHop{Domain: domains[i%len(domains)], Port: 25}, policy.ClassSTS)
		i++
	}
}
