// Package faults asks the whole chain, from the policy map down to the DNS,
// while one answer of the DNS is wrong, and compares what Postfix is told with
// testdata/faults.txt: each question of a resolution by each fault, for a
// domain that is seen for the first time (cold) and for one whose policy is
// known and whose DNS answers have expired (warm). After a change that is
// meant, `go test ./test/faults -update` writes the table anew; each line that
// changed is to be read.
package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
)

var update = flag.Bool("update", false, "write testdata/faults.txt anew")

const (
	domain       = "example.test"
	answerWithin = 10 * time.Second
	// expired is when no answer of the DNS that was given at the start is
	// remembered any more, and the DNS servers were tested again.
	expired = 6 * time.Minute
)

// policyZone is what every kind of domain has: a policy that enforces.
const policyZone = `
$ORIGIN example.test.
@          SOA ns root 1 60 60 60 120
_mta-sts   TXT "v=STSv1; id=1;"
mta-sts    A 192.0.2.80
mta-sts    AAAA 2001:db8::80
`

// daneZone has questions of every type.
const daneZone = `
$SECURE example.test
` + policyZone + `
@                MX 10 mx
mx               CNAME host.cdn.test.
host.cdn.test.   A 192.0.2.25
host.cdn.test.   AAAA 2001:db8::25
_25._tcp.mx      TLSA 3 1 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
`

// world is a kind of domain.
type world struct{ name, mode, zones string }

var worlds = []world{
	{"enforces; signed, with DANE: the MX host is a signed alias of an unsigned name", "enforce", daneZone},
	{"tests; signed, with DANE: the same", "testing", daneZone},
	{"enforces; signed, without DANE", "enforce", `
$SECURE example.test
` + policyZone + `
@                MX 10 mx
mx               A 192.0.2.25
mx               AAAA 2001:db8::25
`},
	{"enforces; unsigned", "enforce", policyZone + `
@                MX 10 mx
mx               A 192.0.2.25
`},
}

var faults = []struct {
	name  string
	fault dnstest.Fault
}{
	{"SERVFAIL", dnstest.ServFail},
	{"time-out", dnstest.Drop},
	{"REFUSED", dnstest.Refused},
	{"malformed", dnstest.Malformed},
	{"AD missing", dnstest.NoAD},
	{"NODATA", dnstest.NoData},
	{"NXDOMAIN", dnstest.NXDomain},
	{"forged id first", dnstest.ForgedFirst},
	{"truncated", dnstest.Truncated},
}

var maps = []string{"policy", "policy-dane"}

func TestEveryFaultAtEveryQuestion(t *testing.T) {
	host := newPolicyHost(t)
	var b strings.Builder
	for i, w := range worlds {
		if i > 0 {
			b.WriteByte('\n')
		}
		table(t, &b, host, w)
	}
	compare(t, b.String())
}

// compare compares a table with the one that is kept, line by line.
func compare(t *testing.T, got string) {
	t.Helper()
	file := filepath.Join("testdata", "faults.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	have, kept := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(have), len(kept)) {
		var g, w string
		if i < len(have) {
			g = have[i]
		}
		if i < len(kept) {
			w = kept[i]
		}
		if g != w {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, g, w)
		}
	}
}

const rowFormat = "%-26s %-16s %-12s %-12s %-18s %s\n"

// table writes the table of one world.
func table(t *testing.T, b *strings.Builder, host *policyHost, in world) {
	t.Helper()
	fmt.Fprintf(b, "%s\n\n", in.name)
	fmt.Fprintf(b, rowFormat, "question", "fault", "policy cold", "policy warm", "policy-dane cold", "policy-dane warm")
	asked := questions(t, host, in)
	row := func(name string, w wrong) {
		var cells [4]string
		for i, mapName := range maps {
			cells[2*i] = cold(t, host, in, mapName, w)
			cells[2*i+1] = warm(t, host, in, mapName, w)
		}
		line := fmt.Sprintf(rowFormat, describe(w.at), name, cells[0], cells[1], cells[2], cells[3])
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	row("none", wrong{})
	for _, at := range asked {
		for _, f := range faults {
			row(f.name, wrong{at, f.fault})
		}
	}
}

// questions are those of a resolution without faults, each of which must be
// asked once, and then the pairs of addresses.
func questions(t *testing.T, host *policyHost, in world) (list [][]dnstest.Question) {
	t.Helper()
	seen := make(map[dnstest.Question]int)
	synctest.Test(t, func(t *testing.T) {
		d := start(t, host, in, wrong{})
		d.ask("policy-dane")
		d.stop()
		for _, q := range d.dns.Queries() {
			seen[q]++
		}
	})
	for q, n := range seen {
		if n != 1 {
			t.Errorf("%s %s was asked %d times", q.Name, q.Type, n)
		}
		list = append(list, []dnstest.Question{q})
		if other := (dnstest.Question{Name: q.Name, Type: "AAAA"}); q.Type == "A" && seen[other] > 0 {
			list = append(list, []dnstest.Question{q, other})
		}
	}
	order := []string{"NS .", "TXT _mta-sts", "A mta-sts", "AAAA mta-sts", "A+AAAA mta-sts", "MX @", "A mx", "AAAA mx", "A+AAAA mx", "CNAME mx", "TLSA _25._tcp.mx"}
	slices.SortFunc(list, func(a, b []dnstest.Question) int {
		return slices.Index(order, describe(a)) - slices.Index(order, describe(b))
	})
	return list
}

func describe(at []dnstest.Question) string {
	if len(at) == 0 {
		return "-"
	}
	types := make([]string, len(at))
	for i, q := range at {
		types[i] = q.Type
	}
	name := at[0].Name
	if name != "." {
		name = strings.TrimSuffix(strings.TrimSuffix(name, domain+"."), ".")
	}
	if name == "" {
		name = "@"
	}
	return strings.Join(types, "+") + " " + name
}

// wrong is what the DNS does when it is asked any of some questions.
type wrong struct {
	at    []dnstest.Question
	fault dnstest.Fault
}

// cold asks about a domain that nobody asked about before.
func cold(t *testing.T, host *policyHost, in world, mapName string, w wrong) (word string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := start(t, host, in, w)
		defer d.stop()
		word = d.ask(mapName)
	})
	return word
}

// warm asks about a domain whose policy is known.
func warm(t *testing.T, host *policyHost, in world, mapName string, w wrong) (word string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := start(t, host, in, wrong{})
		defer d.stop()
		d.ask(mapName)
		d.fault(w)
		time.Sleep(expired)
		word = d.ask(mapName)
	})
	return word
}

// daemon is the chain of a running daemon, without sockets.
type daemon struct {
	t       *testing.T
	dns     *dnstest.Resolver
	cache   *cache.Cache
	handler socketmap.Handler
	cancel  context.CancelFunc
	tests   sync.WaitGroup
}

// facts is how the cache finds things out.
type facts struct {
	*mtasts.Resolver
	hosts *dane.Resolver
}

func (f facts) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	return f.hosts.DANE(ctx, hop, prev)
}

// start starts a daemon for which the DNS does something wrong already.
func start(t *testing.T, host *policyHost, in world, w wrong) *daemon {
	t.Helper()
	d := &daemon{t: t, dns: new(dnstest.Resolver)}
	d.dns.SetZone(in.zones)
	d.fault(w)
	sts, err := mtasts.New(mtasts.Options{DNS: d.dns, CAFile: host.roots, AllowNetworks: host.networks, Dial: host.dialer(in.mode)})
	if err != nil {
		t.Fatal(err)
	}
	d.cache, err = cache.New(cache.Options{
		Store: memstore.New(memstore.Options{}), Resolver: facts{sts, dane.New(d.dns)}, Parse: mtasts.ParsePolicy,
		AnswerWithin: answerWithin,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.handler = policymap.New(d.cache, policymap.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	d.tests.Go(func() { _ = d.dns.Client().Run(ctx) }) // Ends with ctx only.
	return d
}

func (d *daemon) fault(w wrong) {
	for _, q := range w.at {
		d.dns.Fault(q.Name, q.Type, w.fault)
	}
}

func (d *daemon) stop() {
	d.cancel()
	d.tests.Wait()
	if err := d.cache.Close(context.WithoutCancel(d.t.Context())); err != nil {
		d.t.Error(err)
	}
}

// ask asks as Postfix does, and makes one word of the reply.
func (d *daemon) ask(mapName string) string {
	d.t.Helper()
	asked := time.Now()
	status, text := d.handler.ServeSocketmap(d.t.Context(), socketmap.Request{Map: mapName, Key: domain, Asked: asked}, nil)
	reply := socketmap.Reply{Status: status, Text: string(text)}.String()
	if took := time.Since(asked); took > answerWithin {
		d.t.Errorf("answered after %v", took)
	}
	switch {
	case reply == "OK secure match=mx.example.test servername=hostname":
		return "secure"
	case reply == "OK dane-only", reply == "OK dane":
		return strings.TrimPrefix(reply, "OK ")
	case reply == "NOTFOUND ":
		return "NOTFOUND"
	case strings.HasPrefix(reply, "TEMP ") && len(reply) > len("TEMP "):
		return "TEMP"
	}
	d.t.Errorf("a reply that nobody expects: %q", reply)
	return reply
}

func TestADomainWithoutPolicyCostsOneQuestion(t *testing.T) {
	host := newPolicyHost(t)
	synctest.Test(t, func(t *testing.T) {
		d := start(t, host, world{zones: "$SECURE test\nexample.test. MX 10 mx.example.test.\n"}, wrong{})
		defer d.stop()
		synctest.Wait()
		d.dns.Reset()
		if got := d.ask("policy"); got != "NOTFOUND" {
			t.Errorf("got %s", got)
		}
		want := []dnstest.Question{{Name: "_mta-sts.example.test.", Type: "TXT"}}
		if got := d.dns.Queries(); !slices.Equal(got, want) {
			t.Errorf("asked %v, want %v", got, want)
		}
	})
}
