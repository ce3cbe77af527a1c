//go:build e2e

package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// The address of the authoritative server, and its name in every zone.
const (
	authority     = "127.0.0.53"
	authorityName = "a.root."
)

// apex is the start of every zone. Negative answers live for a minute.
const apex = "60 SOA " + authorityName + " hostmaster.root. 1 3600 600 86400 60"

// delegations hold the zone cuts of the root; the DS of the signed zones are
// added to them. The DS of bogus. fits no key, since the zone has none.
const delegations = `
a.root. 3600 A 127.0.0.53
example. 3600 NS a.root.
test. 3600 NS a.root.
silent. 3600 NS a.root.
mute. 3600 NS a.root.
bogus. 3600 NS a.root.
bogus. 3600 DS 4711 13 2 00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF`

// zoneNames are all zones, the root first.
var zoneNames = []string{".", "example.", "test.", "bogus.", "silent.", "mute."}

// signedZones are those that Knot signs, the root first.
var signedZones = []string{".", "example.", "silent."}

// deafZones are asked through a server that takes no question for TLSA.
var deafZones = []string{"silent.", "mute."}

// deafAuthority is the address of that server.
const deafAuthority = "127.0.0.54"

// startDeafAuthority starts the server that drops questions for TLSA.
func startDeafAuthority(t testing.TB) error {
	tap, err := startTap(t, deafAuthority+":53", authority+":53")
	if err != nil {
		return err
	}
	tap.SetFault(func(q Question) Fault {
		if q.Type == TypeTLSA {
			return Drop
		}
		return Pass
	})
	return nil
}

// Zones are what Knot serves. They can be changed at any time.
type Zones struct {
	dir    string
	anchor string
	// forget makes the resolver forget a name and all below it.
	forget func(name string) error

	mu      sync.Mutex // guards records, and that files are loaded as written
	records map[string]map[rrset][]string
}

// rrset is the name and the type of a set of records.
type rrset struct{ name, qtype string }

// Set puts records in the place of those of the same name and type. Records are
// lines of a master file with an absolute name, a TTL, a type and the data; a
// CNAME takes the place of everything of its name:
//
//	example.test. 60 MX 10 mx.example.test.
func (z *Zones) Set(t testing.TB, records string) {
	t.Helper()
	sets, err := parseRecords(records)
	if err == nil {
		err = z.change(sets)
	}
	if err != nil {
		t.Fatalf("changing the zones: %v", err)
	}
}

// Remove takes away the records of a name and a type.
func (z *Zones) Remove(t testing.TB, name, qtype string) {
	t.Helper()
	if err := z.change(map[rrset][]string{{name, qtype}: nil}); err != nil {
		t.Fatalf("changing the zones: %v", err)
	}
}

// parseRecords sorts lines into sets. Each line keeps its TTL.
func parseRecords(text string) (map[rrset][]string, error) {
	sets := make(map[rrset][]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasSuffix(fields[0], ".") {
			return nil, fmt.Errorf("%q is no record with an absolute name, a TTL, a type and data", line)
		}
		key := rrset{fields[0], fields[2]}
		sets[key] = append(sets[key], line)
	}
	return sets, nil
}

// change replaces sets, those that are empty by nothing, and waits until they
// are served and the resolver has forgotten the old ones.
func (z *Zones) change(sets map[rrset][]string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	var zones, domains []string
	for key, lines := range sets {
		zone, domain := place(key.name)
		if z.records[zone] == nil {
			return fmt.Errorf("no zone for %q", key.name)
		}
		if key.qtype == "CNAME" {
			z.removeName(zone, key.name)
		}
		z.records[zone][key] = lines
		zones, domains = append(zones, zone), append(domains, domain)
	}
	for _, zone := range unique(zones) {
		if err := z.write(zone); err != nil {
			return err
		}
		if _, err := run("knotc", "-c", z.conf(), "-b", "zone-reload", zone); err != nil {
			return err
		}
	}
	for _, domain := range unique(domains) {
		if err := z.forget(domain); err != nil {
			return err
		}
	}
	return nil
}

// removeName makes room for a CNAME, beside which nothing may stand.
func (z *Zones) removeName(zone, name string) {
	maps.DeleteFunc(z.records[zone], func(key rrset, _ []string) bool { return key.name == name })
}

// place returns the zone of a name, and the domain below it.
func place(name string) (zone, domain string) {
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	return labels[len(labels)-1] + ".", strings.Join(labels[max(0, len(labels)-2):], ".") + "."
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// write writes the file of a zone.
func (z *Zones) write(zone string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n%s 3600 NS %s\n", zone, apex, zone, authorityName)
	for _, lines := range z.records[zone] {
		for _, line := range lines {
			b.WriteString(line + "\n")
		}
	}
	return os.WriteFile(filepath.Join(z.dir, zoneFile(zone)), []byte(b.String()), 0o644)
}

func zoneFile(zone string) string {
	if zone == "." {
		return "root.zone"
	}
	return zone + "zone"
}

func (z *Zones) conf() string { return filepath.Join(z.dir, "knot.conf") }

// startZones makes the keys and starts Knot.
func startZones(t testing.TB, dir string) (*Zones, error) {
	z := &Zones{dir: dir, records: make(map[string]map[rrset][]string)}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(z.conf(), []byte(knotConf(dir)), 0o644); err != nil {
		return nil, err
	}
	if err := z.sign(); err != nil {
		return nil, err
	}
	knot, err := start(t, exec.Command("knotd", "-c", z.conf()))
	if err != nil {
		return nil, err
	}
	return z, knot.until(func(ctx context.Context) error {
		for _, zone := range zoneNames {
			m, err := Query(ctx, authority+":53", zone, dnsmessage.TypeSOA)
			if err != nil {
				return err
			}
			if len(m.Answers) == 0 {
				return fmt.Errorf("no SOA of %q: %v", zone, m.RCode)
			}
		}
		return nil
	})
}

// sign makes the keys of the signed zones, and writes the first zone files.
func (z *Zones) sign() error {
	ds := make(map[string]string)
	for _, zone := range signedZones {
		if _, err := run("keymgr", "-c", z.conf(), zone, "generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes"); err != nil {
			return err
		}
		out, err := run("keymgr", "-c", z.conf(), zone, "ds")
		if err != nil {
			return err
		}
		// One line for each kind of digest; SHA-256 is 2.
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 5 && f[1] == "DS" && f[4] == "2" {
				ds[zone] = strings.Join(f[2:], " ")
			}
		}
	}
	if len(ds) != len(signedZones) {
		return errors.New("keymgr gave no DS with SHA-256")
	}
	z.anchor = ". IN DS " + ds["."]
	for _, zone := range zoneNames {
		z.records[zone] = make(map[rrset][]string)
	}
	records := delegations
	for _, zone := range signedZones[1:] {
		records += "\n" + zone + " 3600 DS " + ds[zone]
	}
	sets, err := parseRecords(records)
	if err != nil {
		return err
	}
	z.records["."] = sets
	for _, zone := range zoneNames {
		if err := z.write(zone); err != nil {
			return err
		}
	}
	return nil
}

// knotConf is the configuration of Knot. One key signs a whole zone; the serial
// number is Knot's own business.
func knotConf(dir string) string {
	conf := `server:
    rundir: {dir}
    listen: {authority}@53
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: {dir}/knot.sock
log:
  - target: stderr
    any: warning
database:
    storage: {dir}/db
    journal-db-max-size: 64M
    kasp-db-max-size: 16M
policy:
  - id: lab
    manual: on
    single-type-signing: on
template:
  - id: default
    storage: {dir}
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
zone:
`
	conf = strings.NewReplacer("{dir}", dir, "{authority}", authority).Replace(conf)
	for _, zone := range zoneNames {
		conf += fmt.Sprintf("  - domain: %s\n    file: %s\n", zone, zoneFile(zone))
		if slices.Contains(signedZones, zone) {
			conf += "    dnssec-signing: on\n    dnssec-policy: lab\n"
		}
	}
	return conf
}
