//go:build e2e

package perf_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/boltstore"
	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// finder finds facts out as the daemon does.
type finder struct {
	*mtasts.Resolver
	hosts *dane.Resolver
}

func (f finder) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	return f.hosts.DANE(ctx, hop, prev)
}

// parts are where the time of a first question goes: the part of the profile
// that is below a function.
var parts = []struct{ name, function string }{
	{"TLS-%", "crypto/tls.(*Conn).HandshakeContext"},
	{"connect-%", "net.(*Dialer).DialContext"},
	{"HTTP-%", "mtasts.(*transfer).get"},
	{"DNS-%", "dnsclient.(*Client).Query"},
	{"store-%", "boltstore.(*Store).Save"},
}

// BenchmarkColdProfile says where the CPU time of first questions goes, of all
// that the daemon does for them but for the socket and the garbage collector.
// The DNS server and the policy hosts are in this process too; what is done for
// them is left out.
func BenchmarkColdProfile(b *testing.B) {
	w := newWorld(b)
	c := newCache(b, w.DNS.Addr(), w.CAFile())
	file := filepath.Join(b.TempDir(), "cpu")
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		b.Fatal(err)
	}
	pprof.Do(b.Context(), pprof.Labels("side", "daemon"), func(ctx context.Context) {
		for i := 0; b.Loop(); i++ {
			askAll(ctx, b, c, i*coldDomains)
		}
	})
	pprof.StopCPUProfile()
	report(b, file)
}

// coldDomains is how many domains are asked for in a round, coldClients by how
// many clients.
const (
	coldDomains = 3000
	coldClients = 256
)

func askAll(ctx context.Context, b *testing.B, c *cache.Cache, first int) {
	b.Helper()
	var asking sync.WaitGroup
	for client := range coldClients {
		asking.Go(func() {
			for i := client; i < coldDomains; i += coldClients {
				domain, err := policy.ParseDomain(fmt.Sprintf("d%d.%s", first+i, zone))
				if err != nil {
					b.Error(err)
					return
				}
				if v := c.Lookup(ctx, time.Now(), policy.NextHop{Domain: domain, Port: 25}, policy.ClassSTS); v.Kind != policy.Secure {
					b.Errorf("%s: %s (%s)", domain, v.Kind, v.Reason)
					return
				}
			}
		})
	}
	asking.Wait()
}

// newCache makes what the daemon has between the socket and the network.
func newCache(b *testing.B, server, roots string) *cache.Cache {
	b.Helper()
	store, err := boltstore.Open(b.Context(), boltstore.Options{Path: filepath.Join(b.TempDir(), "policies.db")})
	if err != nil {
		b.Fatal(err)
	}
	dns, err := dnsclient.New(dnsclient.Options{Servers: []string{server}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var testing sync.WaitGroup
	testing.Go(func() { _ = dns.Run(ctx) }) // ends with ctx
	sts, err := mtasts.New(mtasts.Options{
		DNS: dns, CAFile: roots, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		b.Fatal(err)
	}
	c, err := cache.New(cache.Options{Store: store, Resolver: finder{sts, dane.New(dns)}, Parse: mtasts.ParsePolicy})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
		stop()
		testing.Wait()
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

// report reads from the profile what each part has of the whole.
func report(b *testing.B, profile string) {
	b.Helper()
	cmd := exec.Command("go", "tool", "pprof", "-top", "-cum", "-nodecount=100000", "-nodefraction=0", "-tagfocus=side=daemon", profile)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("reading the profile: %v: %s", err, messages.String())
	}
	share := make(map[string]float64)
	whole := 0.0
	for line := range strings.Lines(string(out)) {
		if _, rest, ok := strings.Cut(line, "nodes accounting for "); ok {
			whole = percent(strings.Fields(rest)[1])
		}
		// flat, flat %, sum %, cumulated, cumulated %, function
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		for _, p := range parts {
			if strings.HasSuffix(fields[5], p.function) {
				share[p.name] = percent(fields[4])
			}
		}
	}
	if whole == 0 {
		b.Fatalf("there is nothing in the profile:\n%s", out)
	}
	for _, p := range parts {
		b.ReportMetric(100*share[p.name]/whole, p.name)
	}
}

// percent reads a number with a sign after it; what is none is 0.
func percent(s string) float64 {
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil {
		return 0
	}
	return n
}
