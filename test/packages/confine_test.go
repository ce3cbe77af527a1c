//go:build e2e

package packages_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// TestSocketOfItsOwn has the daemon itself open a socket in the chroot, as
// postfix.md tells for a machine without the sockets of systemd: by who has read the
// page from its top, and so has the socket of systemd there.
func TestSocketOfItsOwn(t *testing.T) { onBoth(t, socketOfItsOwn) }

func socketOfItsOwn(t *testing.T, s system) {
	b := install(t, s)
	openInChroot(t, b)
	local := "unix:" + filepath.Join(b.root, unixPath)
	_, page, found := strings.Cut(section(t, "docs/postfix.md", "## The chroot"), "\nWithout systemd's sockets")
	steps := blocks(page)
	if !found || len(steps) != 4 || !strings.Contains(read(t, "../../packaging/man/tlspolicyd.8"), steps[0]) {
		t.Fatalf("postfix.md has other steps, or other ones than the manual: %q", steps)
	}
	b.write(t, conf, labConf+steps[3])
	for _, step := range steps[:3] {
		b.follow(t, step, "own")
	}
	b.do(t, "systemctl", "restart", "tlspolicyd.service")
	expect(t, b, tcp, enforced, secure)
	expect(t, b, local, enforced, secure)
	for user, wanted := range map[string]bool{"postfix": true, "nobody": false} {
		_, err := b.try("runuser", "-u", user, "--", "perl", "-MIO::Socket::UNIX", "-e",
			`IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1`, unixPath)
		if (err == nil) != wanted {
			t.Errorf("connecting as %s: %v", user, err)
		}
	}
	if said := b.journal(); strings.Contains(said, "are not used") {
		t.Errorf("it warns without a reason:\n%s", said)
	}
	b.do(t, "dpkg", "-P", "tlspolicyd")
	b.write(t, conf, labConf)
	b.do(t, "dpkg", "--force-confold", "-i", deb(t, first))
	expect(t, b, tcp, enforced, secure) // the edited unit has outlived the purge
}

// TestCredential gives the daemon a password as install.md has it: it is read
// within the unit, where the page says, and by nobody else. Within the unit a store
// can be reached over TCP and a Unix socket.
func TestCredential(t *testing.T) { onBoth(t, credential) }

func credential(t *testing.T, s system) {
	b := install(t, s)
	steps := blocks(section(t, "docs/install.md", "## The password of a shared store"))
	if len(steps) != 3 {
		t.Fatalf("install.md has other steps: %q", steps)
	}
	if _, ran := b.follow(t, steps[0], ""); ran != 2 {
		t.Fatalf("%d commands:\n%s", ran, steps[0])
	}
	const kept = "/etc/tlspolicyd/redis-password"
	b.do(t, "sh", "-c", "echo hunter2 >"+kept)
	b.follow(t, steps[1], "credential")
	_, rest, _ := strings.Cut(steps[2], "password_file: ")
	path := strings.TrimSpace(rest)

	over, local := listenForStore(t, b)
	// In the place of the daemon, which it then becomes.
	b.write(t, "/usr/local/bin/probe", fmt.Sprintf(`set -ex
test "$(cat %[1]s)" = hunter2
test %[1]s = "$CREDENTIALS_DIRECTORY/redis"
! cat %[2]s
perl -MIO::Socket::INET -MIO::Socket::UNIX -e '
	IO::Socket::INET->new($ARGV[0]) && IO::Socket::UNIX->new(Peer => $ARGV[1]) or die $!' %[3]s %[4]s
exec /usr/bin/tlspolicyd serve
`, path, kept, over, local))
	b.write(t, "/etc/systemd/system/tlspolicyd.service.d/probe.conf",
		"[Service]\nSupplementaryGroups=mail\nExecStart=\nExecStart=/bin/sh /usr/local/bin/probe\n")
	b.do(t, "systemctl", "daemon-reload")
	b.do(t, "systemctl", "restart", "tlspolicyd.service")
	expect(t, b, tcp, enforced, secure)
	if out, err := b.try("runuser", "-u", "nobody", "--", "cat", path); err == nil {
		t.Errorf("anybody can read the password: %s", out)
	}
}

// listenForStore listens as a database of this machine would, whose socket only
// root and a group may open.
func listenForStore(t *testing.T, b *box) (over, local string) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	local = "/run/store/store.sock"
	b.do(t, "install", "-d", "-g", "mail", "-m", "750", filepath.Dir(local))
	unix, err := net.Listen("unix", filepath.Join(b.root, local))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close() })
	b.do(t, "chgrp", "mail", local)
	b.do(t, "chmod", "770", local)
	return tcp.Addr().String(), local
}

// TestWhoMayAsk asks for the status as several users.
func TestWhoMayAsk(t *testing.T) {
	b := install(t, this)
	expect(t, b, tcp, ".example", "NOTFOUND ")
	for _, user := range []string{"root", "tlspolicyd"} {
		if out := b.do(t, "runuser", "-u", user, "--", "tlspolicyd", "status"); !strings.Contains(out, tcp) {
			t.Errorf("%s is told:\n%s", user, out)
		}
	}
	out, err := b.try("runuser", "-u", "nobody", "--", "tlspolicyd", "cache", "show", "example.com")
	for _, want := range []string{"/run/tlspolicyd/admin.sock", "permission denied", "sudo tlspolicyd cache show example.com"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("another user is told, with %v and without %q:\n%s", err, want, out)
		}
	}
}

// TestUnits has systemd look for mistakes in the units.
func TestUnits(t *testing.T) { onBoth(t, verifyUnits) }

func verifyUnits(t *testing.T, s system) {
	b := install(t, s)
	said := b.do(t, "systemd-analyze", "verify", "--man=no", "--recursive-errors=one",
		"tlspolicyd.service", "tlspolicyd.socket", "tlspolicyd-postfix.socket")
	for line := range strings.Lines(said) {
		if strings.Contains(line, "tlspolicyd") {
			t.Errorf("systemd complains: %s", line)
		}
	}
	// The threshold is ten times the exposure.
	b.do(t, "systemd-analyze", "security", "--offline=yes", "--threshold=15", "/usr/lib/systemd/system/tlspolicyd.service")
}
