//go:build e2e

// Package perf_test measures the daemon as a process, over real sockets: what
// an answer costs, and how long a first question takes. What the benchmarks say
// is in docs/performance.md, with the command for each.
package perf_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

func TestMain(m *testing.M) { world.Main(m) }

const (
	// zone holds the domains with a policy, and id is that of every policy.
	zone, id = "with.test", "20260101T000000"
	// maxAge is a usual one: a week, in seconds.
	maxAge = 604800
)

// text is the policy of a domain: the size of those that large hosters publish.
func text(domain string) string {
	return world.Enforce(maxAge, "mx1."+domain, "mx2."+domain, "mx3."+domain, "*.mail."+domain)
}

// newWorld makes a world in which every domain below zone has a policy.
func newWorld(b testing.TB) *world.World {
	b.Helper()
	w := world.New(b)
	w.Pattern(b, map[string]string{zone: id})
	w.Hosts.Pattern(text)
	return w
}

// start starts the daemon as it would be started by an administrator.
func start(b testing.TB, w *world.World, o world.Options) *world.Daemon {
	b.Helper()
	o.Program, o.LogLevel = world.Build(b), "error"
	if o.Recheck == 0 {
		o.Recheck = time.Minute
	}
	return w.Start(b, o)
}

// buildBench builds the program that asks.
func buildBench(b *testing.B) string {
	b.Helper()
	program := filepath.Join(os.TempDir(), "socketmap-bench")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if out, err := exec.Command("go", "build", "-o", program, "tlspolicyd/cmd/socketmap-bench").CombinedOutput(); err != nil {
		b.Fatalf("building the load generator: %v: %s", err, out)
	}
	return program
}

// bench runs the load generator and returns its lines.
func bench(b *testing.B, args ...string) []string {
	b.Helper()
	cmd := exec.Command(buildBench(b), args...)
	var messages strings.Builder
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("socketmap-bench %q: %v: %s", args, err, messages.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// decode reads one of the lines of the load generator.
func decode[T any](b *testing.B, line string) T {
	b.Helper()
	var v T
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		b.Fatalf("the load generator said %q: %v", line, err)
	}
	return v
}

// figures is what the load generator says of one load.
type figures struct {
	PerSecond float64            `json:"per_second"`
	Queries   int                `json:"queries"`
	CPU       float64            `json:"cpu_us"`
	Latency   map[string]float64 `json:"latency_us"`
	Replies   map[string]int     `json:"replies"`
}

// ratios is what it says of two that were measured by turns.
type ratios struct {
	Throughput spread `json:"throughput"`
	P99        spread `json:"p99"`
	CPU        spread `json:"cpu"`
	Load       string `json:"load"`
}

// spread is a median and the quartiles.
type spread struct {
	Q1, Median, Q3 float64
}

func (s spread) String() string { return fmt.Sprintf("%.3f (%.3f to %.3f)", s.Median, s.Q1, s.Q3) }

// envInt is a number that the environment may set.
func envInt(b *testing.B, name string, byDefault int) int {
	b.Helper()
	value := os.Getenv(name)
	if value == "" {
		return byDefault
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return n
}
