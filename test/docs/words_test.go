package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tlspolicyd/internal/config"
)

var (
	link     = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	inline   = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^([a-z/]+) (Test\w+|Fuzz\w+)$`)
	unitName = regexp.MustCompile(`\btlspolicyd[a-z-]*\.(?:service|socket)\b`)
	flagName = regexp.MustCompile(`--[a-z-]+`)
)

// Every link within the project leads to a file.
func TestLinks(t *testing.T) {
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.text, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(p.name), m[1])); err != nil {
				t.Errorf("%s: the link to %s: %v", p.name, m[1], err)
			}
		}
	}
}

// Every test that a page names, as "folder TestName", exists.
func TestNamesOfTests(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for _, m := range inline.FindAllStringSubmatch(p.text, -1) {
			name := testName.FindStringSubmatch(m[1])
			if name == nil {
				continue
			}
			found++
			if !hasTest(t, name[1], name[2]) {
				t.Errorf("%s: there is no %s in %s", p.name, name[2], name[1])
			}
		}
	}
	if found == 0 {
		t.Error("no page names a test: docs/security.md ought to")
	}
}

// hasTest looks for a test in the files of a folder.
func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// Every unit that is named is one that the packages bring.
func TestNamesOfUnits(t *testing.T) {
	for _, p := range pages(t) {
		all := p.text
		for _, b := range p.blocks {
			all += b.text
		}
		for _, name := range unitName.FindAllString(all, -1) {
			if _, err := os.Stat(filepath.Join(root, "packaging/systemd", name)); err != nil {
				t.Errorf("%s: %s: %v", p.name, name, err)
			}
		}
	}
}

// Every YAML is a configuration that the daemon takes, or one of Prometheus.
func TestYAML(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.kind() != yaml {
				continue
			}
			if strings.Contains(b.text, "scrape_configs:") {
				b.leftOut(t, "scrape_configs", "it is Prometheus's, and read in the lab")
				continue
			}
			if _, err := config.Parse(b.page, []byte(b.text)); err != nil {
				t.Errorf("%s:%d: %v", b.page, b.line, err)
			}
		}
	}
}

// Every command that is named within a sentence or a table exists, with every
// option that is named with it.
func TestInlineCommands(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tlspolicyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, root+"/cmd/tlspolicyd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	help := func(words ...string) string {
		out, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", words, err, out)
		}
		return string(out)
	}
	known := map[string]string{}
	for _, p := range pages(t) {
		for _, m := range inline.FindAllStringSubmatch(p.text, -1) {
			rest, ok := strings.CutPrefix(m[1], "tlspolicyd ")
			if !ok {
				continue
			}
			words := subcommand(rest)
			name := strings.Join(words, " ")
			if known[name] == "" {
				known[name] = help(words...)
			}
			if !strings.Contains(known[name], "\n  tlspolicyd "+name) {
				t.Errorf("%s: there is no command %q, see `%s`", p.name, name, m[1])
			}
			for _, flag := range flagName.FindAllString(rest, -1) {
				if !strings.Contains(known[name], flag) {
					t.Errorf("%s: %q knows no %s, see `%s`", p.name, name, flag, m[1])
				}
			}
		}
	}
	if len(known) < 5 {
		t.Errorf("only %d commands were found", len(known))
	}
}

// subcommand returns the words that name a command: one, or two where there are
// commands below.
func subcommand(line string) []string {
	words := strings.Fields(line)
	if len(words) > 1 && (words[0] == "cache" || words[0] == "config") {
		return words[:2]
	}
	return words[:1]
}
