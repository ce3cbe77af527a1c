//go:build e2e

package world

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tlspolicyd/resolver/dnstest"
)

// World is a DNS server and policy hosts, for as long as a test runs.
type World struct {
	// DNS is what the daemon asks. Faults are for the test to set; zones are
	// set by the methods of World.
	DNS *dnstest.Server
	// Hosts are the policy hosts of all domains.
	Hosts *Hosts

	dir string

	mu      sync.Mutex // guards what follows
	txt     map[string][]string
	pattern string
}

// New starts a world.
func New(t testing.TB) *World {
	t.Helper()
	// Paths of Unix sockets are short.
	dir, err := os.MkdirTemp("", "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the world: %v", err)
		}
	})
	w := &World{dir: dir, txt: make(map[string][]string)}
	w.DNS = dnstest.Start(t, "")
	w.Hosts = startHosts(t)
	if err := os.WriteFile(w.CAFile(), w.Hosts.ca.pem(), 0o644); err != nil {
		t.Fatal(err)
	}
	w.load(t)
	return w
}

// Dir makes a directory that lives as long as the world.
func (w *World) Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(w.dir, "d")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Publish gives a domain a policy and a TXT record with an id.
func (w *World) Publish(t testing.TB, domain, id, text string) {
	t.Helper()
	w.Hosts.Set(domain, text)
	w.TXT(t, domain, Record(id))
}

// Record returns the text of a TXT record.
func Record(id string) string { return "v=STSv1; id=" + id + ";" }

// TXT sets the TXT records at the name "_mta-sts" of a domain; none takes the
// name away. The other records of the domain stay what they are.
func (w *World) TXT(t testing.TB, domain string, texts ...string) {
	t.Helper()
	w.mu.Lock()
	w.txt[domain] = texts
	w.mu.Unlock()
	w.load(t)
}

// Pattern makes every name below zone, as deep as it may be, a domain with a
// TXT record of that id, for as many domains as a test can think of. Their
// policies come from [Hosts.Pattern]. There may be several such zones; a later
// call with the same zone changes the id.
func (w *World) Pattern(t testing.TB, ids map[string]string) {
	t.Helper()
	var b strings.Builder
	for zone, id := range ids {
		fmt.Fprintf(&b, "*.%[1]s. 1 TXT %[2]q\n*.%[1]s. 300 A %[3]s\n*.%[1]s. 300 MX 10 mx.%[1]s.\n", zone, Record(id), w.Hosts.addr)
	}
	w.mu.Lock()
	w.pattern = b.String()
	w.mu.Unlock()
	w.load(t)
}

// zonesAbove are the zones in which all domains lie. TTLs are as short as they
// can be, so that a change is seen at the next look.
const zonesAbove = `
$SECURE .
$INSECURE test.
.      60 SOA ns.test. root.test. 1 60 60 60 1
.    3600 NS  ns.test.
test.   1 SOA ns.test. root.test. 1 60 60 60 1
`

// load has the DNS server answer with what the world is now.
func (w *World) load(t testing.TB) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	b.WriteString(zonesAbove + w.pattern)
	for domain, texts := range w.txt {
		fmt.Fprintf(&b, "%[1]s. 300 MX 10 mx.%[1]s.\nmta-sts.%[1]s. 300 A %[2]s\n", domain, w.Hosts.addr)
		for _, text := range texts {
			fmt.Fprintf(&b, "_mta-sts.%s. 1 TXT %q\n", domain, text)
		}
	}
	if err := w.DNS.Load(b.String()); err != nil {
		t.Fatal(err)
	}
}

// Die lets every policy host be dead and every TXT record be gone, as for
// somebody whom an attacker allows nothing but the lookup of MX hosts.
func (w *World) Die() {
	w.Hosts.TurnAll(Dead)
	w.DNS.Fault(dnstest.Any, "TXT", dnstest.NXDomain)
}

// Revive undoes Die, and every other fault of the DNS.
func (w *World) Revive() {
	w.Hosts.TurnAll(Well)
	w.DNS.ClearFaults()
}

// CAFile is a file with the certificate that signs those of the policy hosts.
func (w *World) CAFile() string { return filepath.Join(w.dir, "ca.pem") }

// Enforce is a policy of mode enforce.
func Enforce(maxAge int, mx ...string) string { return file("enforce", maxAge, mx) }

// Testing is a policy of mode testing.
func Testing(maxAge int, mx ...string) string { return file("testing", maxAge, mx) }

// None is a policy of mode none.
func None(maxAge int) string { return file("none", maxAge, nil) }

func file(mode string, maxAge int, mx []string) string {
	lines := []string{"version: STSv1", "mode: " + mode}
	for _, name := range mx {
		lines = append(lines, "mx: "+name)
	}
	return strings.Join(slices.Concat(lines, []string{fmt.Sprintf("max_age: %d", maxAge), ""}), "\n")
}

// Secure is the reply to a question about a domain with an enforce policy.
func Secure(mx ...string) string {
	return "OK secure match=" + strings.Join(mx, ":") + " servername=hostname"
}

// NotFound is the reply to a question about a domain without a policy.
const NotFound = "NOTFOUND "
