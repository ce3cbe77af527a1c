//go:build e2e

package packages_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

var (
	block  = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	edited = regexp.MustCompile(`^# systemctl edit (\S+)\n`)
	// restart is how a page says that an edited unit comes into force.
	restart = regexp.MustCompile("`(systemctl stop [^`]*; systemctl start [^`]*)`")
)

// TestDocuments does what the pages tell an operator to do with systemd: the
// commands are run in their order, and the units are edited. What needs no
// systemd is run by test/docs.
func TestDocuments(t *testing.T) {
	b := install(t)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	commands, units := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range block.FindAllStringSubmatch(string(text), -1) {
			commands += runLines(t, b, found[1])
			if unit := edited.FindStringSubmatch(found[1]); unit != nil {
				b.write(t, "/etc/systemd/system/"+unit[1]+".d/override.conf", found[1])
				b.do(t, "systemctl", "daemon-reload")
				units++
			}
		}
		for _, found := range restart.FindAllStringSubmatch(string(text), -1) {
			b.do(t, "sh", "-ec", found[1])
		}
	}
	if commands < 7 || units < 1 {
		t.Errorf("%d commands and %d units in the pages", commands, units)
	}
	// migrating.md moves the daemon to the address of another program, and
	// postfix.md gives it a socket in the chroot.
	expect(t, b, "127.0.0.1:8642", enforced, secure)
	expect(t, b, "unix:"+filepath.Join(b.root, unixPath), enforced, secure)
}

// TestNewUser takes the way of the README: the package is installed, main.cf gets
// the three lines, and the first mail to a domain that enforces its policy goes
// over TLS that was verified.
func TestNewUser(t *testing.T) {
	_, l, host := installIn(t)
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "## Three lines for main.cf\n")
	lines := block.FindStringSubmatch(after)
	if !found || lines == nil || strings.Count(lines[1], "\n") != 3 {
		t.Fatalf("the README has no three lines for main.cf: %q", lines)
	}
	relay := l.StartPostfix(t, lab.PostfixOptions{
		Release: lab.System(), Settings: strings.Split(strings.TrimSpace(lines[1]), "\n"),
	})
	relay.Check(t, relay.Send(t, "user@"+enforced), enforced, host, lab.Verified)
}

// runLines runs those lines of a block that are for systemd.
func runLines(t *testing.T, b *box, lines string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(lines) {
		if strings.HasPrefix(line, "systemctl ") || strings.HasPrefix(line, "journalctl ") {
			b.do(t, "sh", "-ec", strings.TrimSpace(line)+"\n")
			n++
		}
	}
	return n
}
