//go:build e2e

package packages_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// TestDocuments does what the pages tell an operator to do with systemd: the
// commands are run in their order, and the units are edited. What needs no
// systemd is run by test/docs.
func TestDocuments(t *testing.T) {
	b := install(t, this)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	ran, edits := 0, 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks(string(text)) {
			e, r := b.follow(t, block, "page"+strconv.Itoa(edits))
			edits, ran = edits+e, ran+r
		}
		for _, found := range sentence.FindAllStringSubmatch(string(text), -1) {
			b.do(t, "sh", "-ec", found[1])
			ran++
		}
	}
	if ran < 7 || edits < 3 {
		t.Errorf("%d commands and %d units in the pages", ran, edits)
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
	_, l, host := installIn(t, this)
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
