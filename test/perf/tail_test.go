//go:build e2e

package perf_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/boltstore"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/world"
)

const (
	// tailKeys is how many policies are in memory: as many as it has room for.
	tailKeys = 100_000
	// writers is how many goroutines write the store.
	writers = 64
)

// BenchmarkTail asks for 100,000 policies in memory and says what the garbage
// collector adds to the slowest answers: the 99.9th percentile of a daemon as it
// is, and as a multiple of that of one without a collector, measured by turns.
// Under churn, other connections ask for domains that nobody has asked for
// before, as fast as they are answered. ROUNDS says how often.
func BenchmarkTail(b *testing.B) {
	w := newWorld(b)
	state := w.Dir(b)
	writePolicies(b, filepath.Join(state, "policies.db"))
	collecting := startFull(b, w, state)
	without := startFull(b, w, state, "GOGC=off")
	rounds := envInt(b, "ROUNDS", 10)
	for _, churn := range []bool{false, true} {
		b.Run(fmt.Sprintf("churn=%t", churn), func(b *testing.B) {
			for range b.N {
				began, cycles := time.Now(), collections(collecting)
				var tails, ratios []float64
				for range rounds {
					with, none := tail(b, collecting, churn), tail(b, without, churn)
					tails, ratios = append(tails, with), append(ratios, with/none)
				}
				slices.Sort(tails)
				slices.Sort(ratios)
				b.ReportMetric(tails[rounds/2], "p99.9-us")
				b.ReportMetric(ratios[rounds/2], "p99.9/no-gc")
				b.ReportMetric(float64(collections(collecting)-cycles)/time.Since(began).Seconds()*2, "gc/s")
			}
		})
	}
}

// startFull starts a daemon with a copy of the store in state, and has it
// remember all that is in it.
func startFull(b *testing.B, w *world.World, state string, env ...string) *world.Daemon {
	b.Helper()
	own := w.Dir(b)
	if err := os.CopyFS(own, os.DirFS(state)); err != nil {
		b.Fatal(err)
	}
	// Nothing is looked up anew while it is measured.
	d := start(b, w, world.Options{State: own, Recheck: time.Hour, NoDANE: true, Env: append(env, "GODEBUG=gctrace=1")})
	bench(b, "load", "-addr", d.Addr, "-conns", "64", "-order", "once", "-time", "10m",
		"-keys", strconv.Itoa(tailKeys), "-key", "d%06d."+zone, "-want", "OK")
	return d
}

// fresh is the number of the next domain that nobody has asked for.
var fresh atomic.Int64

// tail returns the 99.9th percentile of the answers of two seconds, in
// microseconds.
func tail(b *testing.B, d *world.Daemon, churn bool) float64 {
	b.Helper()
	var churning sync.WaitGroup
	if churn {
		const most = 1_000_000
		first := fresh.Add(most)
		churning.Go(func() {
			bench(b, "load", "-addr", d.Addr, "-conns", "8", "-order", "once", "-time", "2s",
				"-first", fmt.Sprint(first), "-keys", fmt.Sprint(most), "-key", "d%d.without.test", "-want", "NOTFOUND")
		})
	}
	lines := bench(b, "load", "-addr", d.Addr, "-conns", "8", "-time", "2s",
		"-keys", strconv.Itoa(tailKeys), "-key", "d%06d."+zone, "-want", "OK")
	churning.Wait()
	return decode[figures](b, lines[0]).Latency["p99.9"]
}

// collections counts what the collector says of itself.
func collections(d *world.Daemon) int { return strings.Count(d.Log.String(), "\ngc ") }

// writePolicies makes a store of policies that were fetched an hour ago.
func writePolicies(b *testing.B, path string) {
	b.Helper()
	s, err := boltstore.Open(b.Context(), boltstore.Options{Path: path})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	var next atomic.Int64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for i := next.Add(1) - 1; i < tailKeys && !b.Failed(); i = next.Add(1) - 1 {
				if err := savePolicy(b.Context(), s, now, fmt.Sprintf("d%06d.%s", i, zone)); err != nil {
					b.Error(err)
				}
			}
		})
	}
	writing.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if b.Failed() {
		b.FailNow()
	}
}

func savePolicy(ctx context.Context, s *boltstore.Store, now time.Time, domain string) error {
	d, err := policy.ParseDomain(domain)
	if err != nil {
		return err
	}
	fetched := now.Add(-time.Hour)
	return s.Save(ctx, cache.Record{
		Domain: d, Text: text(domain), ID: id, Fetched: fetched, Expires: fetched.Add(maxAge * time.Second),
		Refresh: now.Add(24 * time.Hour), LastUse: now,
	})
}
