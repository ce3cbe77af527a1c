//go:build e2e

package packages_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// TestDocuments does what the pages tell an operator to do with systemd: the
// commands are run in the order in which they stand, those within sentences and
// tables too, and the units are edited. What needs no systemd is run by test/docs.
func TestDocuments(t *testing.T) {
	b := install(t, this)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	// Where the daemon is to be asked after a page.
	after := map[string]string{"install.md": tcp, "migrating.md": "127.0.0.1:8642", "postfix.md": "unix:" + filepath.Join(b.root, unixPath)}
	ran, edits := 0, 0
	for _, page := range pages {
		name := filepath.Base(page)
		// What comes then is for machines without the sockets, see TestSocketOfItsOwn.
		text, _, _ := strings.Cut(read(t, page), "\nWithout systemd's sockets")
		e, r := b.walk(t, text, strings.TrimSuffix(name, ".md"))
		edits, ran = edits+e, ran+r
		if addr := after[name]; addr != "" {
			expect(t, b, addr, enforced, secure)
			delete(after, name)
		}
	}
	if ran < 20 || edits < 2 || len(after) > 0 {
		t.Errorf("%d commands and %d units in the pages; not found: %v", ran, edits, after)
	}
}

// TestNewUser takes the way of the README: the package is installed, main.cf gets
// the three lines, and the first mail to a domain that enforces its policy goes
// over TLS that was verified.
func TestNewUser(t *testing.T) {
	_, l, host := installIn(t, this)
	_, after, found := strings.Cut(read(t, "../../README.md"), "## Three lines for main.cf\n")
	lines := block.FindStringSubmatch(after)
	if !found || lines == nil || strings.Count(lines[1], "\n") != 3 {
		t.Fatalf("the README has no three lines for main.cf: %q", lines)
	}
	relay := l.StartPostfix(t, lab.PostfixOptions{
		Release: lab.System(), Settings: strings.Split(strings.TrimSpace(lines[1]), "\n"),
	})
	relay.Check(t, relay.Send(t, "user@"+enforced), enforced, host, lab.Verified)
}

// TestRootCertificatesInDocuments compares where install.md says that root
// certificates are read, and in which order, with where they are.
func TestRootCertificatesInDocuments(t *testing.T) {
	source := read(t, "../../resolver/mtasts/roots_source.go")
	_, source, _ = strings.Cut(source, "var systemBundles")
	source, _, found := strings.Cut(source, "// rootSource says")
	var want, got []string
	for _, m := range regexp.MustCompile(`"(/[^"]+)"`).FindAllStringSubmatch(source, -1) {
		want = append(want, m[1])
	}
	table, _, _ := strings.Cut(section(t, "docs/install.md", "## Root certificates"), "They are read again")
	for _, m := range regexp.MustCompile("`(/[^`]+)`").FindAllStringSubmatch(table, -1) {
		got = append(got, m[1])
	}
	if !found || len(want) < 5 || !slices.Equal(got, want) {
		t.Errorf("install.md names %q, the program reads %q", got, want)
	}
}

// TestWhatThePagesTake looks for what an administrator has to know before it is
// needed.
func TestWhatThePagesTake(t *testing.T) {
	before, _, _ := strings.Cut(section(t, "README.md", "## Three lines for main.cf"), "```")
	for what, in := range map[string]string{
		"validating resolver": before, "smtp_tls_CApath": before,
		"3.4 to 3.11":           section(t, "docs/postfix.md", "# Postfix and tlspolicyd"),
		"build --format docker": read(t, "../../contrib/container/Containerfile"),
	} {
		if !strings.Contains(in, what) {
			t.Errorf("nothing is said of %q in:\n%s", what, in)
		}
	}
}
