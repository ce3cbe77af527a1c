//go:build e2e

package packages_test

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// Everything that is enabled after the chroot socket was.
var units = []string{"tlspolicyd.service", "tlspolicyd.socket", "tlspolicyd-postfix.socket"}

// own is a configuration that the administrator has written.
const own = "log: {level: warn}\n"

// TestLifeOfPackage installs, upgrades, removes, installs again and purges.
func TestLifeOfPackage(t *testing.T) { onBoth(t, lifeOfPackage) }

func lifeOfPackage(t *testing.T, s system) {
	b := startBox(t, s)
	before := b.files(t)
	postfix := b.do(t, "sh", "-c", "cd /etc/postfix && find . -type f | sort | xargs sha256sum")
	old, latest := deb(t, first), deb(t, second)
	b.do(t, "dpkg", "-i", old)
	sameFile(t, filepath.Join(b.root, conf), "../../internal/config/default.yaml")
	expect(t, b, tcp, ".example", "NOTFOUND ")
	for _, unit := range units[:2] {
		b.do(t, "systemctl", "is-enabled", unit)
		b.do(t, "systemctl", "is-active", unit)
	}
	if out, err := b.try("systemctl", "is-enabled", "tlspolicyd-postfix.socket"); err == nil {
		t.Errorf("the socket in the chroot is enabled by itself: %s", out)
	}
	b.write(t, conf, own)
	b.write(t, "/var/lib/tlspolicyd/learned", "x")
	upgrade(t, b, latest)
	remove(t, b, latest)

	const dropIn = "/etc/systemd/system/tlspolicyd.service.d/override.conf"
	b.write(t, dropIn, "[Service]\nMemoryMax=2G\n")
	b.do(t, "dpkg", "-P", "tlspolicyd")
	var left []string
	for file := range b.files(t) {
		if !before[file] && file != dropIn && file != filepath.Dir(dropIn) {
			left = append(left, file)
		}
	}
	if len(left) > 0 || !b.exists(t, dropIn) {
		t.Errorf("after the purge %q is left, and what the administrator has edited: %v", left, b.exists(t, dropIn))
	}
	if out := b.do(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", "tlspolicyd*"); out != "" {
		t.Errorf("after the purge systemd knows:\n%s", out)
	}
	if got := b.do(t, "sh", "-c", "cd /etc/postfix && find . -type f | sort | xargs sha256sum"); got != postfix {
		t.Errorf("Postfix has changed:\n%s\n%s", got, postfix)
	}
}

// upgrade installs another version, while the service is disabled.
func upgrade(t *testing.T, b *box, latest string) {
	t.Helper()
	b.do(t, "systemctl", "disable", "tlspolicyd.service")
	pid := b.property(t, "MainPID")
	b.do(t, "dpkg", "--force-confold", "-i", latest)
	if b.property(t, "MainPID") == pid {
		t.Error("after the upgrade the old daemon runs")
	}
	if out, err := b.try("systemctl", "is-enabled", "tlspolicyd.service"); err == nil {
		t.Errorf("the upgrade has enabled what the administrator has disabled: %s", out)
	}
	kept(t, b, "after the upgrade")
	b.do(t, "systemctl", "enable", "tlspolicyd.service")
}

// remove removes the package with all units enabled, and installs it again.
func remove(t *testing.T, b *box, latest string) {
	t.Helper()
	openInChroot(t, b)
	b.do(t, "dpkg", "-r", "tlspolicyd")
	kept(t, b, "after the removal")
	c := &client{addr: tcp}
	if got, err := c.ask(t.Context(), ".example"); err == nil {
		t.Errorf("after the removal somebody answers %q", got)
	}
	b.do(t, "dpkg", "-i", latest)
	kept(t, b, "after it is installed again")
	for _, unit := range units {
		if got, err := b.try("systemctl", "is-enabled", unit); err != nil {
			t.Errorf("after it is installed again %s is %s", unit, got)
		}
	}
	expect(t, b, tcp, ".example", "NOTFOUND ")
	expect(t, b, "unix:"+filepath.Join(b.root, unixPath), ".example", "NOTFOUND ")
}

// kept wants the configuration and the state of the administrator.
func kept(t *testing.T, b *box, when string) {
	t.Helper()
	if got := b.do(t, "cat", conf); got != own || !b.exists(t, "/var/lib/tlspolicyd/learned") {
		t.Errorf("%s: configuration %q, state kept: %v", when, got, b.exists(t, "/var/lib/tlspolicyd/learned"))
	}
}

// files lists the files of the box that may be the daemon's, but for those of the
// package manager and of systemd itself, and for the users, who stay.
func (b *box) files(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for file := range strings.Lines(b.do(t, "sh", "-ec", `find /etc /var /run -xdev \( \
		-path /var/lib/dpkg -o -path /var/cache -o -path /var/log -o -path /run/log -o -path /run/systemd \
		-o -path /run/credentials -o -path /var/tmp -o -path "/etc/*-" -o -path /etc/.pwd.lock \) -prune -o -print; find /usr /opt /srv -xdev -name "*tlspolicyd*"`)) {
		all[strings.TrimSpace(file)] = true
	}
	return all
}

// TestPortInUse installs the package while another program has its port, as
// migrating.md has it, and then starts it in its place.
func TestPortInUse(t *testing.T) { onBoth(t, portInUse) }

func portInUse(t *testing.T, s system) {
	b, _, _ := prepare(t, s)
	found := sentence.FindStringSubmatch(section(t, "docs/migrating.md", "## From postfix-mta-sts-resolver"))
	if found == nil {
		t.Fatal("migrating.md does not say how the daemon takes the place of the other")
	}
	other, err := net.Listen("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	b.do(t, "dpkg", "--force-confold", "-i", deb(t, first))
	other.Close()
	b.do(t, "sh", "-ec", found[1])
	expect(t, b, tcp, enforced, secure)
	b.do(t, "systemctl", "is-active", "tlspolicyd.socket")
	if n := strings.Count(b.journal(), "using a socket from systemd"); n != 1 {
		t.Errorf("%d sockets of systemd are used; the journal:\n%s", n, b.journal())
	}
}
