//go:build e2e

package packages_test

import (
	"path/filepath"
	"testing"
)

// TestInstalledAgain removes the package and installs it again where a unit was
// edited as a whole, so that removing it masks nothing: the daemon runs again.
func TestInstalledAgain(t *testing.T) { onBoth(t, installedAgain) }

func installedAgain(t *testing.T, s system) {
	b := install(t, s)
	expect(t, b, tcp, enforced, secure)
	openInChroot(t, b)
	local := "unix:" + filepath.Join(b.root, unixPath)
	// As "systemctl edit --full" does.
	b.do(t, "cp", "/usr/lib/systemd/system/tlspolicyd.service", "/etc/systemd/system/tlspolicyd.service")
	b.do(t, "systemctl", "daemon-reload")
	b.do(t, "dpkg", "-r", "tlspolicyd")
	b.do(t, "dpkg", "-i", deb(t, first))
	expect(t, b, tcp, enforced, secure)
	expect(t, b, local, enforced, secure)

	t.Run("a removal that is given up", func(t *testing.T) {
		script(t, b, "prerm", "remove", "in-favour", "other", "1.0")
		script(t, b, "postinst", "abort-remove", "in-favour", "other", "1.0")
		expect(t, b, tcp, enforced, secure)
		expect(t, b, local, enforced, secure)
	})
	t.Run("an upgrade of what was stopped", func(t *testing.T) {
		b.do(t, "systemctl", "stop", units[2], units[1], units[0])
		b.do(t, "dpkg", "-i", deb(t, second))
		for _, unit := range units {
			if out, err := b.try("systemctl", "is-active", unit); err == nil {
				t.Errorf("the upgrade has started %s: %s", unit, out)
			}
		}
	})
	t.Run("an upgrade of what runs", func(t *testing.T) {
		b.do(t, "systemctl", "restart", units[0])
		pid := b.property(t, "MainPID")
		b.do(t, "dpkg", "-i", deb(t, second))
		if b.property(t, "MainPID") == pid {
			t.Error("after the upgrade the old daemon runs")
		}
		expect(t, b, tcp, enforced, secure)
		expect(t, b, local, enforced, secure)
	})
}

// script runs a script of the package as dpkg does.
func script(t *testing.T, b *box, name string, args ...string) {
	t.Helper()
	b.do(t, append([]string{"env", "DPKG_MAINTSCRIPT_PACKAGE=tlspolicyd", "DPKG_MAINTSCRIPT_NAME=" + name,
		"/var/lib/dpkg/info/tlspolicyd." + name}, args...)...)
}
