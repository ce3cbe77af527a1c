package docs_test

import (
	"os"
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
