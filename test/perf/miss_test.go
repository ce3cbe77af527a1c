//go:build e2e

package perf_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/test/world"
)

// BenchmarkMiss measures first questions, one after the other, where every
// round trip takes 20 ms: median and 99th percentile in round trips, and the
// questions to the DNS for each.
func BenchmarkMiss(b *testing.B) {
	w := newWorld(b)
	startLink(b, address(b, w.DNS.Addr(), "mta-sts.x."+zone)+":443")
	if err := w.DNS.Load(strings.ReplaceAll(zones, "{far}", far)); err != nil {
		b.Fatal(err)
	}
	d := start(b, w, world.Options{})
	w.DNS.Delay(dnstest.Any, dnstest.Any, roundTrip)
	for _, test := range []struct {
		name, key, want string
		trips           float64
	}{
		// TXT, address, TCP, TLS 1.3, HTTP.
		{"policy", "d%d-%d." + zone, "OK ", 5},
		{"no policy", "d%d-%d.without.test", world.NotFound, 1},
	} {
		b.Run(test.name, func(b *testing.B) {
			var took []time.Duration
			w.DNS.Reset()
			for i := 0; b.Loop(); i++ {
				asked := time.Now()
				reply := d.Ask(b, fmt.Sprintf(test.key, b.N, i))
				took = append(took, time.Since(asked))
				if !strings.HasPrefix(reply, test.want) {
					b.Fatalf("the reply is %q", reply)
				}
			}
			queries := 0
			for _, q := range w.DNS.Queries() {
				if q.Name != "." {
					queries++
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/float64(roundTrip)/test.trips, "median/critical-path")
			b.ReportMetric(float64(took[len(took)*99/100])/float64(roundTrip)/test.trips, "p99/critical-path")
			b.ReportMetric(float64(queries)/float64(len(took)), "dns-queries/answer")
		})
	}
}

// zones are those of a world whose policy hosts are far away.
const zones = `
$SECURE .
$INSECURE test.
.      60 SOA ns.test. root.test. 1 60 60 60 1
.    3600 NS  ns.test.
test.   1 SOA ns.test. root.test. 1 60 60 60 1
*.with.test. 60 TXT "v=STSv1; id=20260101T000000;"
*.with.test. 300 A {far}
*.with.test. 300 MX 10 mx.with.test.
`

// BenchmarkCold asks for domains that nobody has asked for before, over 256
// connections: what a policy takes from the DNS and the policy host to the
// store, with DNS, policy hosts and daemon on one machine.
func BenchmarkCold(b *testing.B) {
	w := newWorld(b)
	d := start(b, w, world.Options{})
	const domains = 3000
	for i := 0; b.Loop(); i++ {
		lines := bench(b, "load", "-addr", d.Addr, "-conns", "256", "-order", "once", "-time", "1m",
			"-first", fmt.Sprint(i*domains), "-keys", fmt.Sprint(domains), "-key", "d%d."+zone, "-want", "OK")
		f := decode[figures](b, lines[0])
		if f.Queries != domains {
			b.Fatalf("%d answers, want %d", f.Queries, domains)
		}
		b.ReportMetric(f.PerSecond, "answers/s")
		b.ReportMetric(f.CPU, "cpu-us/answer")
	}
}
