//go:build e2e

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Resolver is the address of Unbound.
const Resolver = "127.0.0.1:53"

// startUnbound starts a resolver that validates from the key of the lab's own
// root, and waits until it does.
func startUnbound(t testing.TB, dir string, z *Zones) error {
	conf := filepath.Join(dir, "unbound.conf")
	text := strings.NewReplacer("{dir}", dir, "{anchor}", z.anchor, "{authority}", authority).Replace(unboundConf)
	for _, zone := range deafZones {
		text += fmt.Sprintf("stub-zone:\n    name: %q\n    stub-addr: %s\n", zone, deafAuthority)
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	unbound, err := start(t, exec.Command("unbound", "-d", "-c", conf))
	if err != nil {
		return err
	}
	z.forget = func(name string) error {
		_, err := run("unbound-control", "-c", conf, "flush_zone", name)
		return err
	}
	return unbound.until(func(ctx context.Context) error {
		m, err := Query(ctx, Resolver, ".", dnsmessage.TypeNS)
		if err != nil {
			return err
		}
		if !m.AuthenticData {
			return fmt.Errorf("the root's NS are not validated: %v", m.RCode)
		}
		return nil
	})
}

// unboundConf is the configuration of Unbound: an ordinary validating resolver,
// but for what it may ask. Denials are not made up from NSEC records that are
// known, since the zones change under it.
const unboundConf = `server:
    interface: 127.0.0.1
    access-control: 127.0.0.0/8 allow
    do-ip6: no
    do-daemonize: no
    do-not-query-localhost: no
    username: ""
    chroot: ""
    directory: "{dir}"
    pidfile: ""
    use-syslog: no
    num-threads: 1
    module-config: "validator iterator"
    trust-anchor: "{anchor}"
    val-bogus-ttl: 1
    aggressive-nsec: no
    harden-below-nxdomain: no
    local-zone: "test." nodefault
remote-control:
    control-enable: yes
    control-interface: "{dir}/unbound.ctl"
    control-use-cert: no
stub-zone:
    name: "."
    stub-addr: {authority}
`
