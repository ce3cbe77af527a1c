//go:build e2e

package perf_test

import (
	"fmt"
	"strconv"
	"testing"

	"tlspolicyd/test/world"
)

// hitKeys is how many domains are asked for: they all stay in memory.
const hitKeys = 500

// BenchmarkHit compares answers from memory with those of a bare echo server,
// by turns: throughput, 99th percentile and CPU time, as multiples of the echo
// server's. PAIRS says how often. Client and servers have a CPU each, or share all.
func BenchmarkHit(b *testing.B) {
	w := newWorld(b)
	for _, socket := range []struct{ name, listen string }{{"unix", ""}, {"tcp", "127.0.0.1:8461"}} {
		for _, cpus := range []string{"apart", "shared"} {
			b.Run(fmt.Sprintf("socket=%s/cpus=%s", socket.name, cpus), func(b *testing.B) {
				compareHits(b, start(b, w, world.Options{Listen: socket.listen}), cpus == "apart")
			})
		}
	}
}

func compareHits(b *testing.B, d *world.Daemon, apart bool) {
	b.Helper()
	pairs := strconv.Itoa(envInt(b, "PAIRS", 10))
	for _, reconnect := range []bool{false, true} {
		for _, conns := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("conns=%d/reconnect=%t", conns, reconnect), func(b *testing.B) {
				for range b.N {
					lines := bench(b, "compare", "-addr", d.Addr, "-pid", strconv.Itoa(d.PID()), "-conns", strconv.Itoa(conns),
						fmt.Sprintf("-reconnect=%t", reconnect), fmt.Sprintf("-apart=%t", apart), "-pairs", pairs, "-time", "1s", "-want", "OK",
						"-keys", strconv.Itoa(hitKeys), "-key", "d%06d."+zone)
					first, r := decode[figures](b, lines[0]), decode[ratios](b, lines[len(lines)-1])
					b.ReportMetric(r.Throughput.Median, "throughput/echo")
					b.ReportMetric(r.P99.Median, "p99/echo")
					b.ReportMetric(r.CPU.Median, "cpu/echo")
					b.ReportMetric(first.PerSecond, "answers/s")
					b.ReportMetric(first.CPU, "cpu-us/answer")
					b.Logf("throughput %s, p99 %s, CPU %s; load %s", r.Throughput, r.P99, r.CPU, r.Load)
				}
			})
		}
	}
}
