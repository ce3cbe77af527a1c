//go:build e2e

package fleet_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

var (
	domains = flag.Int("domains", 60, "how many domains have a policy")
	period  = flag.Duration("period", 20*time.Second, "the time between two refreshes of a policy")
	periods = flag.Int("periods", 2, "how many of those to wait")
	// Two relays that fetch at the same moment are as rare as their refreshes
	// are spread, which is over a tenth of the period.
	most = flag.Float64("most", 1.3, "how many fetches there may be per policy and period")
)

// zone holds the domains of the tests under load.
const zone = "load.test"

func name(i int) string { return fmt.Sprintf("d%d.%s", i, zone) }

func text(domain string) string { return world.Enforce(week, "mx."+domain) }

// fetches counts the fetches of each policy by when they came.
type fetches struct {
	mu sync.Mutex // guards at
	at map[string][]time.Time
}

func (n *fetches) text(domain string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[domain] = append(n.at[domain], time.Now())
	return text(domain)
}

// perPeriod returns the number of all fetches, and of those that were needed:
// one that comes less than half a period after another was not.
func (n *fetches) perPeriod(period time.Duration) (all, needed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.at {
		all += len(at)
		last := time.Time{}
		for _, when := range at {
			if when.Sub(last) > period/2 {
				needed++
				last = when
			}
		}
	}
	return all, needed
}

// Three relays make about one fetch per policy and period.
func TestOneFetchForAll(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{Refresh: *period, LogLevel: "info"})
	n := &fetches{at: make(map[string][]time.Time)}
	f.Hosts.Pattern(n.text)
	f.Pattern(t, map[string]string{zone: "1"})
	for i := range *domains {
		// Mail for a domain does not come to all relays at once.
		for _, r := range rand.Perm(relays) {
			if got := f.relays[r].Ask(t, name(i)); got != world.Secure("mx."+name(i)) {
				t.Fatalf("%s: %q", name(i), got)
			}
			f.awaitShared(t, name(i))
		}
	}
	time.Sleep(time.Duration(*periods) * *period)
	all, needed := n.perPeriod(*period)
	t.Logf("%d relays, %d domains, %d periods of %v: %d fetches, %d of them needed: %.3f per policy and period",
		relays, *domains, *periods, *period, all, needed, float64(all)/float64(needed))
	if needed < *domains**periods {
		t.Errorf("%d fetches were needed, want at least %d: policies are not refreshed", needed, *domains**periods)
	}
	if per := float64(all) / float64(needed); per > *most {
		t.Errorf("%.3f fetches per policy and period, want at most %.2f", per, *most)
	}
}

// answers are what clients got while something happened.
type answers struct {
	all, failed, wrong atomic.Int64

	mu   sync.Mutex // guards took
	took []time.Duration
}

// quantile returns how long all but a part of the answers took.
func (a *answers) quantile(q float64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.took) == 0 {
		return 0
	}
	slices.Sort(a.took)
	return a.took[int(q*float64(len(a.took)-1))]
}

// load asks all relays about domains that they know until done is closed.
func (f *fleet) load(t *testing.T, known int, done <-chan struct{}) *answers {
	t.Helper()
	a := &answers{}
	var asking sync.WaitGroup
	for _, d := range f.relays {
		for range 2 {
			client, err := d.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			asking.Go(func() {
				defer client.Close()
				for {
					select {
					case <-done:
						return
					default:
					}
					domain := name(rand.N(known))
					begun := time.Now()
					reply, err := client.Lookup(t.Context(), "policy", domain)
					took := time.Since(begun)
					a.all.Add(1)
					switch {
					case err != nil:
						a.failed.Add(1)
						return
					case reply.String() != world.Secure("mx."+domain):
						a.wrong.Add(1)
					}
					a.mu.Lock()
					a.took = append(a.took, took)
					a.mu.Unlock()
				}
			})
		}
	}
	<-done
	asking.Wait()
	return a
}

// during counts the answers while f happens.
func (f *fleet) during(t *testing.T, known int, happens func()) *answers {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		happens()
	}()
	return f.load(t, known, done)
}

// The Redis is killed under load, stays away, and comes back empty.
func TestKilledDatabase(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	f.Hosts.Pattern(text)
	f.Pattern(t, map[string]string{zone: "1"})
	const known = 100
	for i := range known {
		f.everybody(t, name(i), world.Secure("mx."+name(i)))
	}
	before := f.during(t, known, func() { time.Sleep(3 * time.Second) })
	var cold answers
	without := f.during(t, known, func() {
		time.Sleep(time.Second)
		f.redis.Kill()
		// What nobody knows yet is found out as ever.
		for i := known; i < known+20; i++ {
			for _, d := range f.relays {
				begun := time.Now()
				if got := d.Ask(t, name(i)); got != world.Secure("mx."+name(i)) {
					t.Errorf("without a Redis, %s is answered %q", name(i), got)
				}
				cold.took = append(cold.took, time.Since(begun))
			}
		}
		time.Sleep(2 * time.Second)
	})
	after := f.during(t, known, func() {
		f.redis.Start()
		time.Sleep(3 * time.Second)
	})
	for _, a := range []struct {
		when string
		*answers
	}{{"before", before}, {"while it was killed", without}, {"after it came back", after}} {
		t.Logf("%-20s %7d answers, %d failed, %d wrong, median %v, p99 %v",
			a.when, a.all.Load(), a.failed.Load(), a.wrong.Load(), a.quantile(0.5), a.quantile(0.99))
		if a.failed.Load() != 0 || a.wrong.Load() != 0 || a.all.Load() == 0 {
			t.Errorf("%s: %d of %d answers failed, %d were wrong", a.when, a.failed.Load(), a.all.Load(), a.wrong.Load())
		}
	}
	t.Logf("first questions without a Redis: median %v, slowest %v", cold.quantile(0.5), cold.quantile(1))
	// Both what it had held and what was learned without it is there again.
	for i := range known + 20 {
		f.awaitShared(t, name(i))
	}
}
