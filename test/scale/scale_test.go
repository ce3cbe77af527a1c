//go:build e2e

// Package scale_test measures the daemon with many policies in its store. What
// the figures are, and on what machine, is in docs/performance.md.
package scale_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

func TestMain(m *testing.M) { world.Main(m) }

// policies is how many policies are stored; "make scale" wants a million.
var policies = flag.Int("policies", 10_000, "how many policies to store")

// The goals.
const (
	startWithin = 500 * time.Millisecond
	missWithin  = time.Millisecond
	memoryBelow = 250e6
)

const (
	// due policies are to be refreshed at the start.
	due = 500
	// memory is the default of cache.memory.
	memory = 100_000
	// sample is how many answers are measured.
	sample = 5000
	// clients fill the memory.
	clients = 32
)

func TestScale(t *testing.T) {
	w := world.New(t)
	w.Pattern(t, map[string]string{zone: id})
	w.Hosts.Pattern(text)
	state := w.Dir(t)
	path := filepath.Join(state, "policies.db")
	t.Logf("%d cores, %s, %d policies", runtime.NumCPU(), runtime.Version(), *policies)

	begun := time.Now()
	generate(t, path, *policies, due)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("written in %v, file of %.1f MB, %d bytes for a policy", time.Since(begun).Round(time.Second),
		float64(info.Size())/1e6, info.Size()/int64(*policies))
	o := world.Options{Program: world.Build(t), State: state, Recheck: time.Minute, LogLevel: "error"}
	measureRefresh(t, w, o)
	measureStart(t, w, o)
	measureMiss(t, w, o)
	measureMemory(t, w, o)
}

// measureRefresh measures what it costs to refresh the policies that are due,
// above what it costs that none is.
func measureRefresh(t *testing.T, w *world.World, o world.Options) {
	t.Helper()
	d := w.Start(t, o)
	w.DNS.Reset()
	before, begun := d.Usage(t), time.Now()
	n := refreshed(t, w)
	busy, took := d.Usage(t), time.Since(begun)
	time.Sleep(10 * time.Second)
	idle := d.Usage(t)
	perSecond := float64(idle.CPU-busy.CPU) / 10
	cost := (float64(busy.CPU-before.CPU) - perSecond*took.Seconds()) / n
	written, queries := float64(busy.Written-before.Written)/n, questions(w)/n
	perHour := float64(*policies) / 24
	t.Logf("a refresh: %.2f ms of CPU, %.0f kB written, %.1f questions to the DNS; %.0f in %v; afterwards RssAnon %.0f MB, RssFile %.0f MB",
		cost/1e6, written/1e3, queries, n, took.Round(100*time.Millisecond), float64(idle.Anon)/1e6, float64(idle.File)/1e6)
	t.Logf("an hour, each policy once a day: %.0f refreshes, %.1f s of CPU (%.2f %% of a core), %.0f MB written, %.0f questions to the DNS; nothing due: %.1f ms of CPU a second, %d bytes written in 10 s",
		perHour, perHour*cost/1e9, perHour*cost/3600e9*100, perHour*written/1e6, perHour*queries, perSecond/1e6, idle.Written-busy.Written)
	d.Kill(t)
}

// refreshed waits until no more policies are refreshed, and returns how many were.
// All are of one address: on a machine that is slow enough some of them find no
// place there, and are put off.
func refreshed(t *testing.T, w *world.World) float64 {
	t.Helper()
	const still = 3 * time.Second
	n, since := 0, time.Now()
	for n < due && time.Since(since) < still || n == 0 && time.Since(since) < time.Minute {
		time.Sleep(50 * time.Millisecond)
		if total := w.Hosts.Total(); total != n {
			n, since = total, time.Now()
		}
	}
	time.Sleep(time.Second) // until the last one is written
	if n = w.Hosts.Total(); n < due/2 || n > due {
		t.Fatalf("%d policies were refreshed, want %d", n, due)
	}
	return float64(n)
}

// questions is how many questions about domains the DNS was asked.
func questions(w *world.World) float64 {
	n := 0
	for _, q := range w.DNS.Queries() {
		if q.Name != "." { // the test of the server
			n++
		}
	}
	return float64(n)
}

// measureStart measures the time from the start of the process to its first
// answer, which is a policy from the store.
func measureStart(t *testing.T, w *world.World, o world.Options) {
	t.Helper()
	for _, what := range []string{"file not in the page cache", "file in the page cache"} {
		var took []time.Duration
		for i := range 5 {
			if what != "file in the page cache" {
				forget(t, filepath.Join(o.State, "policies.db"))
			}
			d := w.Launch(t, o)
			name := domain(*policies/2 + i)
			got, err := d.First(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(d.Started))
			if got != reply(name) {
				t.Fatalf("the first reply is %q", got)
			}
			u := d.Usage(t)
			if i == 0 {
				t.Logf("just started, %s: RssAnon %.1f MB, RssFile %.1f MB", what, float64(u.Anon)/1e6, float64(u.File)/1e6)
			}
			d.Kill(t)
		}
		slices.Sort(took)
		t.Logf("start to first answer, %s: median %v, slowest %v of %d", what, took[len(took)/2], took[len(took)-1], len(took))
		if took[0] > startWithin {
			t.Errorf("the first answer took %v, want %v", took[0], startWithin)
		}
	}
}

// measureMiss measures answers from the store and from memory. Without DANE an
// answer takes nothing else.
func measureMiss(t *testing.T, w *world.World, o world.Options) {
	t.Helper()
	o.NoDANE = true
	d := w.Start(t, o)
	n := min(sample, *policies)
	miss, hit := ask(t, d, n), ask(t, d, n)
	for _, c := range []struct {
		what string
		took []time.Duration
	}{{"from the store", miss}, {"from memory", hit}} {
		t.Logf("an answer %s, as the client sees it: median %v, 99 %% %v of %d", c.what, c.took[n/2], c.took[n*99/100], n)
	}
	if miss[n/2] > missWithin {
		t.Errorf("an answer from the store took %v, want %v", miss[n/2], missWithin)
	}
	d.Kill(t)
}

// ask asks for the first n domains, one after the other, and returns how long
// each answer took, the shortest first.
func ask(t *testing.T, d *world.Daemon, n int) []time.Duration {
	t.Helper()
	client, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	took := make([]time.Duration, n)
	for i := range n {
		asked := time.Now()
		got, err := client.Lookup(t.Context(), "policy", domain(i))
		took[i] = time.Since(asked)
		if err != nil || got.String() != reply(domain(i)) {
			t.Fatalf("%s: the reply is %q, %v", domain(i), got, err)
		}
	}
	slices.Sort(took)
	return took
}

// measureMemory fills the memory, with DANE facts in it, and twice over, so
// that it has to let go of what it holds.
func measureMemory(t *testing.T, w *world.World, o world.Options) {
	t.Helper()
	d := w.Start(t, o)
	most := world.Usage{}
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			u := d.Usage(t)
			most.Anon, most.File = max(most.Anon, u.Anon), max(most.File, u.File)
			time.Sleep(50 * time.Millisecond)
		}
	})
	begun := time.Now()
	n := min(*policies, 2*memory)
	var asking sync.WaitGroup
	for c := range clients {
		asking.Go(func() { fill(t, d, c, n) })
	}
	asking.Wait()
	took := time.Since(begun)
	stop()
	watching.Wait()
	u := d.Usage(t)
	t.Logf("%d domains asked for by %d clients in %v (%.0f/s): RssAnon %.0f MB, at most %.0f MB; RssFile %.0f MB, at most %.0f MB",
		n, clients, took.Round(time.Second), float64(n)/took.Seconds(),
		float64(u.Anon)/1e6, float64(most.Anon)/1e6, float64(u.File)/1e6, float64(most.File)/1e6)
	if most.Anon > memoryBelow {
		t.Errorf("RssAnon was %.0f MB, want at most %.0f MB", float64(most.Anon)/1e6, memoryBelow/1e6)
	}
	d.Kill(t)
}

// fill asks for every one of the domains below n that is a client's.
func fill(t *testing.T, d *world.Daemon, client, n int) {
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	for i := client; i < n; i += clients {
		got, err := c.Lookup(t.Context(), "policy", domain(i))
		if err != nil || got.String() != reply(domain(i)) {
			t.Errorf("%s: the reply is %q, %v", domain(i), got, err)
			return
		}
	}
}

// forget has the kernel drop a file from the page cache.
func forget(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	// The file as a whole; posix_fadvise(2).
	const dontNeed = 4
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
		t.Fatalf("dropping the file from the page cache: %v", errno)
	}
}
