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
// round trip takes 20 ms: median and 99th percentile in round trips, the same as
// multiples of what a client needs that goes the critical path and does nothing
// else, by turns, and the questions to the DNS for each.
func BenchmarkMiss(b *testing.B) {
	w := newWorld(b)
	startLink(b, address(b, w.DNS.Addr(), "mta-sts.x."+zone)+":443")
	if err := w.DNS.Load(strings.ReplaceAll(zones, "{far}", far)); err != nil {
		b.Fatal(err)
	}
	d := start(b, w, world.Options{})
	w.DNS.Delay(dnstest.Any, dnstest.Any, roundTrip)
	walker := newWalker(b, w)
	for _, test := range []struct {
		name, key, want string
		trips           float64
	}{
		// TXT, address, TCP, TLS 1.3, HTTP.
		{"policy", "d%d-%d." + zone, "OK ", 5},
		{"no policy", "d%d-%d.without.test", world.NotFound, 1},
	} {
		b.Run(test.name, func(b *testing.B) {
			var took, bare times
			asked := 0
			for i := 0; b.Loop(); i++ {
				begun := time.Now()
				walker.walk(b, fmt.Sprintf("bare-"+test.key, b.N, i))
				bare = append(bare, time.Since(begun))
				w.DNS.Reset()
				begun = time.Now()
				reply := d.Ask(b, fmt.Sprintf(test.key, b.N, i))
				took = append(took, time.Since(begun))
				asked += queries(w)
				if !strings.HasPrefix(reply, test.want) {
					b.Fatalf("the reply is %q", reply)
				}
			}
			path := test.trips * float64(roundTrip)
			b.ReportMetric(took.quantile(0.5)/path, "median/round-trips")
			b.ReportMetric(took.quantile(0.99)/path, "p99/round-trips")
			b.ReportMetric(took.quantile(0.5)/bare.quantile(0.5), "median/bare")
			b.ReportMetric(took.quantile(0.99)/bare.quantile(0.99), "p99/bare")
			b.ReportMetric(float64(asked)/float64(len(took)), "dns-queries/answer")
		})
	}
}

// times are how long something took, time after time.
type times []time.Duration

// quantile returns, in nanoseconds, what a share of them did not exceed.
func (t times) quantile(share float64) float64 {
	sorted := slices.Sorted(slices.Values(t))
	return float64(sorted[int(share*float64(len(sorted)-1))])
}

// queries is how many questions the DNS was asked about domains.
func queries(w *world.World) int {
	n := 0
	for _, q := range w.DNS.Queries() {
		if q.Name != "." { // the test of the server
			n++
		}
	}
	return n
}

// BenchmarkQueries counts the questions to the DNS for a domain that is asked for
// the first time.
func BenchmarkQueries(b *testing.B) {
	w := newWorld(b)
	host := address(b, w.DNS.Addr(), "mta-sts.x."+zone)
	if err := w.DNS.Load(strings.ReplaceAll(zones+signedZones, "{far}", host)); err != nil {
		b.Fatal(err)
	}
	w.Hosts.Pattern(func(domain string) string {
		if strings.HasSuffix(domain, ".testing.test") {
			return world.Testing(maxAge, "mx."+domain)
		}
		return text(domain)
	})
	d := start(b, w, world.Options{})
	client, err := d.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for _, zone := range []string{"with.test", "testing.test", "without.test", "sts", "both", "dane", "none"} {
		for _, m := range []string{"policy", "policy-dane"} {
			b.Run(fmt.Sprintf("zone=%s/map=%s", zone, m), func(b *testing.B) {
				w.DNS.Reset()
				var answer string
				for i := range b.N {
					reply, err := client.Lookup(b.Context(), m, fmt.Sprintf("%s-%d-%d.%s", m, b.N, i, zone))
					if err != nil {
						b.Fatal(err)
					}
					answer = reply.String()
				}
				b.ReportMetric(float64(queries(w))/float64(b.N), "dns-queries/answer")
				b.ReportMetric(0, "ns/op")
				b.Logf("%.40s", answer)
			})
		}
	}
}

// signedZones are domains whose zones are signed, each with two MX hosts of one
// address each: with a policy, with TLSA records, with both, and with neither.
const signedZones = `
*.testing.test. 60 TXT "v=STSv1; id=20260101T000000;"
*.testing.test. 300 A {far}
*.testing.test. 300 MX 10 mx.testing.test.
*.sts.   60 TXT "v=STSv1; id=20260101T000000;"
*.sts.  300 A {far}
*.sts.  300 MX 10 mx1.plain.
*.sts.  300 MX 20 mx2.plain.
*.both.  60 TXT "v=STSv1; id=20260101T000000;"
*.both. 300 A {far}
*.both. 300 MX 10 mx1.tlsa.
*.both. 300 MX 20 mx2.tlsa.
*.dane. 300 MX 10 mx1.tlsa.
*.dane. 300 MX 20 mx2.tlsa.
*.none. 300 MX 10 mx1.plain.
*.none. 300 MX 20 mx2.plain.
mx1.plain. 300 A 11.0.0.1
mx2.plain. 300 A 11.0.0.2
mx1.tlsa.  300 A 11.0.0.1
mx2.tlsa.  300 A 11.0.0.2
_25._tcp.mx1.tlsa. 300 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
_25._tcp.mx2.tlsa. 300 TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
`

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
