// Package layout proves the architecture of docs/flow.md: who may import whom,
// and that every third-party library has one home.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "tlspolicyd/"

// homes says below which folder a library may be imported.
var homes = map[string]string{
	"github.com/miekg/dns":            "resolver",
	"github.com/hashicorp/golang-lru": "cache",
	"go.etcd.io/bbolt":                "cache/boltstore",
	"github.com/redis/go-redis":       "cache/redisstore",
	"github.com/prometheus":           "internal/metrics",
	"github.com/coreos/go-systemd":    "cmd",
	"github.com/spf13/cobra":          "cmd",
	"github.com/spf13/pflag":          "cmd",
	"github.com/goccy/go-yaml":        "internal/config",
	"golang.org/x/net":                "resolver/policy",
	"github.com/rogpeppe/go-internal": "cmd",
	"go.uber.org/zap":                 "",
	"golang.org/x/sys":                "",
}

// pillars do not import each other; resolver/policy is what they share.
var pillars = []string{"socketmap", "cache", "resolver"}

const shared = "resolver/policy"

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "../../...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func within(folder, path string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func pillarOf(path string) string {
	for _, p := range pillars {
		if within(p, path) {
			return p
		}
	}
	return ""
}

func TestPillarsDoNotImportEachOther(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if within("cmd", path) || within("test", path) {
			continue
		}
		for _, imported := range p.Imports {
			target, ours := strings.CutPrefix(imported, module)
			if !ours || target == shared {
				continue
			}
			if path == shared {
				t.Errorf("%s is a leaf and imports %s", path, target)
			}
			if pillarOf(path) != "" && pillarOf(target) != pillarOf(path) {
				t.Errorf("%s imports %s", path, target)
			}
		}
	}
}

func TestEveryLibraryHasOneHome(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") {
				continue // standard library, or our own
			}
			home, known := homeOf(imported)
			if !known {
				t.Errorf("%s imports %s, which has no home", path, imported)
			}
			if home != "" && !within(home, path) && !within("test", path) {
				t.Errorf("%s imports %s, whose home is %s", path, imported, home)
			}
		}
	}
}

func homeOf(imported string) (string, bool) {
	for library, home := range homes {
		if within(library, imported) {
			return home, true
		}
	}
	return "", false
}
