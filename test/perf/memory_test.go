package perf_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/internal/garbage"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
)

// forgetful is a store that is always empty: what is measured is memory.
type forgetful struct{}

func (forgetful) Load(context.Context, policy.Domain) (cache.Record, error) {
	return cache.Record{}, cache.ErrNotFound
}
func (forgetful) Save(context.Context, cache.Record) error    { return nil }
func (forgetful) Remove(context.Context, policy.Domain) error { return nil }
func (forgetful) Scan(context.Context, policy.Domain, int) ([]cache.Record, error) {
	return nil, nil
}
func (forgetful) Due(context.Context, time.Time, int) ([]policy.Domain, error) {
	return nil, nil
}

// many is a network on which every domain has a policy of its own, or none has.
type many struct {
	known
	absent bool
}

func (m many) Look(ctx context.Context, d policy.Domain, prev policy.STS) policy.STS {
	next := m.known.Look(ctx, d, prev)
	if m.absent {
		next.Record, next.Wanted, next.Detail = policy.RecordAbsent, "", "no TXT record"
	}
	return next
}

func (m many) Fetch(_ context.Context, d policy.Domain, prev policy.STS) policy.STS {
	p, err := mtasts.ParsePolicy(fmt.Sprintf("version: STSv1\nmode: enforce\nmx: mx1.%[1]s\nmx: mx2.%[1]s\nmx: mx3.%[1]s\nmx: *.mail.%[1]s\nmax_age: 604800\n", d))
	if err != nil {
		panic(err)
	}
	now := time.Now()
	prev.Policy, prev.ID, prev.Fetched, prev.Wanted = p, "20260101T"+fmt.Sprint(len(prev.ID)), now, ""
	prev.Refresh = now.Add(24 * time.Hour)
	return prev
}

// BenchmarkMemory says how many bytes a remembered domain takes: live is what
// cannot be collected, resident what the process has of the machine after it
// was asked for twice as many domains as it may remember.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, absent := range []bool{false, true} {
			kind := map[bool]string{false: "policies", true: "absences"}[absent]
			b.Run(kind+"="+strconv.Itoa(n), func(b *testing.B) {
				for range b.N {
					measureMemory(b, n, many{absent: absent})
				}
			})
		}
	}
}

func measureMemory(b *testing.B, n int, network many) {
	defer garbage.Tune()() // as the daemon does
	debug.FreeOSMemory()
	before, rss := live(), resident(b)
	c, err := cache.New(cache.Options{Store: forgetful{}, Resolver: network, Parse: mtasts.ParsePolicy, Memory: n})
	if err != nil {
		b.Fatal(err)
	}
	h := policymap.New(c, policymap.Options{})
	var text []byte
	ask := func(i int) {
		_, text = h.ServeSocketmap(b.Context(), socketmap.Request{Map: "policy", Key: fmt.Sprintf("d%08x.example", uint32(i)*2654435761), Asked: time.Now()}, text[:0])
	}
	for i := range n {
		ask(i)
	}
	b.ReportMetric(float64(live()-before)/float64(n), "live-B/domain")
	for i := range n {
		ask(n + i)
	}
	b.ReportMetric(float64(resident(b)-rss)/float64(n), "resident-B/domain")
	if err := c.Close(context.WithoutCancel(b.Context())); err != nil {
		b.Fatal(err)
	}
}

// live is how many bytes there are that are still in use.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// resident is the anonymous memory of the process (proc(5): RssAnon).
func resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte("RssAnon:"))
	var kb int64
	if _, err := fmt.Sscan(string(rest), &kb); err != nil {
		b.Fatal(err)
	}
	return kb << 10
}
