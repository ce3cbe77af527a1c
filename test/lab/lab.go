//go:build e2e

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// startWithin is how long a part of the lab may take to start.
const startWithin = 20 * time.Second

// Lab is the part of the lab that every test needs: the DNS, a certification
// authority and the policy hosts. It ends with the test that made it.
type Lab struct {
	// Zones are served by Knot and validated by Unbound.
	Zones *Zones
	// CA is the authority that the relay believes.
	CA *CA
	// Policies are the policy hosts of all domains.
	Policies *PolicyHosts

	dir       string
	addresses atomic.Uint32
	relays    atomic.Uint32
	building  sync.Mutex
}

// New starts a lab. It must have ended before the next one is started.
func New(t testing.TB) *Lab {
	t.Helper()
	dir, err := os.MkdirTemp(runDir, "t")
	if err != nil {
		t.Fatalf("starting a lab: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatalf("starting a lab: %v", err)
	}
	l := &Lab{dir: dir}
	if l.CA, err = newCA(); err != nil {
		t.Fatalf("starting a lab: %v", err)
	}
	if err := os.WriteFile(l.CAFile(), l.CA.PEM(), 0o644); err != nil {
		t.Fatalf("starting a lab: %v", err)
	}
	if l.Zones, err = startZones(t, l.subdir(t, "knot")); err != nil {
		t.Fatalf("starting the zones: %v", err)
	}
	if err := startDeafAuthority(t); err != nil {
		t.Fatalf("starting the server that takes no question for TLSA: %v", err)
	}
	if err := startUnbound(t, l.subdir(t, "unbound"), l.Zones); err != nil {
		t.Fatalf("starting the resolver: %v", err)
	}
	if l.Policies, err = startPolicyHosts(t, l.CA); err != nil {
		t.Fatalf("starting the policy hosts: %v", err)
	}
	return l
}

// CAFile is the path of the authority's certificate, the same for every part.
func (l *Lab) CAFile() string { return filepath.Join(l.dir, "ca.pem") }

// Address returns an address for a mail host that nobody else has.
func (l *Lab) Address() string {
	n := l.addresses.Add(1)
	return fmt.Sprintf("127.1.%d.%d", n/250, n%250+1)
}

// subdir makes a directory of the lab.
func (l *Lab) subdir(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(l.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
