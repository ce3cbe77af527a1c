//go:build e2e

package packages_test

import (
	"strings"
	"testing"
)

// TestLifeOfRPM installs, upgrades and removes the package of rpm with its scripts,
// under a systemd that is running.
func TestLifeOfRPM(t *testing.T) {
	b := startBox(t, next(t))
	b.do(t, "rpm", "-i", "--nodeps", rpm(t, first))
	b.do(t, "id", "tlspolicyd")
	for _, unit := range units[:2] { // the preset of this distribution
		b.do(t, "systemctl", "is-enabled", unit)
		if out, err := b.try("systemctl", "is-active", unit); err == nil {
			t.Errorf("%s is started without being asked for: %s", unit, out)
		}
	}
	b.do(t, "systemctl", "enable", "--now", "tlspolicyd.socket", "tlspolicyd.service") // install.md
	expect(t, b, tcp, ".example", "NOTFOUND ")
	openInChroot(t, b)

	b.write(t, conf, own)
	b.write(t, "/var/lib/tlspolicyd/learned", "x")
	pid := b.property(t, "MainPID")
	b.do(t, "rpm", "-U", "--nodeps", rpm(t, second))
	kept(t, b, "after the upgrade")
	if got := b.do(t, "tlspolicyd", "version"); !strings.HasPrefix(got, "tlspolicyd "+second+" ") || b.property(t, "MainPID") == pid {
		t.Errorf("after the upgrade the old daemon runs: %s", got)
	}
	expect(t, b, tcp, ".example", "NOTFOUND ")

	b.do(t, "rpm", "-e", "--nodeps", "tlspolicyd")
	if got := b.do(t, "cat", conf+".rpmsave", "/var/lib/tlspolicyd/learned"); got != own+"x" {
		t.Errorf("after the removal the administrator has %q", got)
	}
	c := &client{addr: tcp}
	if got, err := c.ask(t.Context(), ".example"); err == nil {
		t.Errorf("after the removal somebody answers %q", got)
	}
	for _, unit := range units {
		if out := b.do(t, "systemctl", "show", "--property=LoadState", "--value", unit); strings.TrimSpace(out) != "not-found" {
			t.Errorf("after the removal systemd has %s: %s", unit, out)
		}
	}
}
