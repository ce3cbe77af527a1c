//go:build e2e

package perf_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

// hangers is how many policy hosts hang, and how many connections ask for
// domains of theirs at a time.
const hangers = 1000

// Of the hosts that hang, hangOne has all on one address, and hangEach each on
// its own.
const (
	hangOne  = "h%d.one.test"
	hangEach = "h%d.each.test"
)

// newHanging makes a world in which policy hosts hang, beside those of zone.
func newHanging(t testing.TB) *world.World {
	t.Helper()
	w := world.New(t)
	w.Pattern(t, map[string]string{zone: id})
	w.Hosts.Pattern(text)
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(zones, "{far}", address(t, w.DNS.Addr(), "mta-sts.x."+zone)))
	hold(t, "127.2.0.1:443")
	b.WriteString("*.one.test. 60 TXT \"v=STSv1; id=1;\"\n*.one.test. 300 A 127.2.0.1\n")
	for i := range hangers {
		name, addr := fmt.Sprintf(hangEach, i), fmt.Sprintf("127.2.%d.%d", 1+i/250, 1+i%250)
		hold(t, addr+":443")
		fmt.Fprintf(&b, "_mta-sts.%s. 60 TXT \"v=STSv1; id=1;\"\nmta-sts.%s. 300 A %s\n", name, name, addr)
	}
	if err := w.DNS.Load(b.String()); err != nil {
		t.Fatal(err)
	}
	return w
}

// hold has the kernel take connections at an address, from which nobody ever
// reads.
func hold(t testing.TB, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// crowd asks for domains whose policy hosts hang, over as many connections as
// there are such hosts, until stop is called.
type crowd struct {
	answered atomic.Int64
	stop     func()
}

func startCrowd(t testing.TB, d *world.Daemon, key string, questions int64) *crowd {
	t.Helper()
	c := &crowd{}
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	c.stop = sync.OnceFunc(func() {
		cancel()
		asking.Wait()
	})
	t.Cleanup(c.stop)
	var next atomic.Int64
	for range hangers {
		asking.Go(func() {
			client, err := d.Dial(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			defer client.Close()
			for i := next.Add(1) - 1; i < questions; i = next.Add(1) - 1 {
				if _, err := client.Lookup(ctx, "policy", fmt.Sprintf(key, i)); err != nil {
					return // it was told to stop
				}
				c.answered.Add(1)
			}
		})
	}
	return c
}

// TestHangingHosts has more domains with one policy host that hangs than
// policies may be fetched at a time: first contacts of other domains get theirs.
func TestHangingHosts(t *testing.T) {
	w := newHanging(t)
	d := start(t, w, world.Options{FetchTimeout: time.Minute, NoDANE: true})
	c := startCrowd(t, d, hangOne, 3*hangers)
	for n := 0; c.answered.Load() < 3*hangers; n++ {
		name := fmt.Sprintf("d%d.%s", n, zone)
		if got := d.Ask(t, name); !strings.HasPrefix(got, "OK ") {
			t.Fatalf("after %d questions for hosts that hang, the reply for another domain is %q", c.answered.Load(), got)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// BenchmarkHanging compares first questions, one after the other, with the same
// while a thousand policy hosts hang; and says what a fetch that hangs takes of
// memory.
func BenchmarkHanging(b *testing.B) {
	w := newHanging(b)
	for _, test := range []struct{ name, key string }{{"one address", hangOne}, {"an address each", hangEach}} {
		b.Run(test.name, func(b *testing.B) {
			for range b.N {
				d := start(b, w, world.Options{FetchTimeout: time.Minute, NoDANE: true})
				const n = 500
				alone := first(b, d, 0, n)
				before := d.Usage(b)
				c := startCrowd(b, d, test.key, hangers)
				time.Sleep(time.Second) // until all are under way
				during := d.Usage(b)
				beside := first(b, d, n, n)
				c.stop()
				b.ReportMetric(alone[n/2], "alone-ms")
				b.ReportMetric(beside[n/2], "beside-ms")
				b.ReportMetric(beside[n/2]/alone[n/2], "beside/alone")
				b.ReportMetric(beside[n*99/100]/alone[n*99/100], "p99-beside/alone")
				b.ReportMetric(float64(during.Anon-before.Anon)/1e3/hangers, "kB/question")
				d.Kill(b)
			}
		})
	}
}

// first asks for n domains that nobody has asked for, and returns how many
// milliseconds each answer took, the shortest first.
func first(b *testing.B, d *world.Daemon, from, n int) []float64 {
	b.Helper()
	client, err := d.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	var took []float64
	for i := range n {
		asked := time.Now()
		reply, err := client.Lookup(b.Context(), "policy", fmt.Sprintf("d%d.%s", from+i, zone))
		took = append(took, time.Since(asked).Seconds()*1e3)
		if err != nil || !strings.HasPrefix(reply.String(), "OK ") {
			b.Fatalf("the reply is %q, %v", reply, err)
		}
	}
	slices.Sort(took)
	return took
}
