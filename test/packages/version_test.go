//go:build e2e

package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packageVersion returns the version of the packages for one of the program.
func packageVersion(t *testing.T, version, seconds string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "../../packaging/version.sh", version, seconds))
}

// TestVersionsSort wants the packages of later sources to be later, as dpkg and
// rpm compare them.
func TestVersionsSort(t *testing.T) {
	sorted := []struct{ version, seconds, want string }{
		{"0123abc", "1767225600", "0~20260101000000.0123abc"},
		{"0023abc-dirty", "1767225601", "0~20260101000001.0023abc.dirty"},
		{"00123456", "1767225602", "0~20260101000002.00123456"},
		{"1234567", "1767225603", "0~20260101000003.1234567"},
		{"1234567-dirty", "1767225604", "0~20260101000004.1234567.dirty"},
		{"0a1b2c3", "1767225605", "0~20260101000005.0a1b2c3"},
		{"unknown", "1767225606", "0~20260101000006.unknown"},
		{"v0.9.0", "1", "0.9.0"},
		{"1.2.3-rc1", "1", "1.2.3~rc1"},
		{"1.2.3-rc1-4-g0123abc", "1", "1.2.3~rc1+4.g0123abc"},
		{"1.2.3-rc2", "1", "1.2.3~rc2"},
		{"v1.2.3", "1", "1.2.3"},
		{"1.2.3-5-gfedcba9", "1", "1.2.3+5.gfedcba9"},
		{"1.2.3-5-gfedcba9-dirty", "1", "1.2.3+5.gfedcba9.dirty"},
		{"v1.2.3-12-g0123abc", "1", "1.2.3+12.g0123abc"},
		{"1.2.4-rc1", "1", "1.2.4~rc1"},
		{"1.2.4", "1", "1.2.4"},
		{"1.2.4-dirty", "1", "1.2.4+dirty"},
		{"1.10.0", "1", "1.10.0"},
		{"2-rc1", "1", "2~rc1"},
		{"2", "1", "2"},
		{"v2-3-g0123abc", "1", "2+3.g0123abc"},
		{"3", "1", "3"},
		{"20", "1", "20"},
	}
	before := ""
	for _, s := range sorted {
		got := packageVersion(t, s.version, s.seconds)
		if got != s.want {
			t.Errorf("the packages of %q are %q, want %q", s.version, got, s.want)
		}
		if before != "" {
			if err := exec.Command("dpkg", "--compare-versions", before, "lt", got).Run(); err != nil {
				t.Errorf("dpkg takes %s not to be before %s: %v", before, got, err)
			}
			if order := run(t, "rpm", "--eval", `%{lua:print(rpm.vercmp("`+before+`", "`+got+`"))}`); strings.TrimSpace(order) != "-1" {
				t.Errorf("rpm takes %s not to be before %s: %s", before, got, order)
			}
		}
		before = got
	}
}

// TestVersionOfGit asks git what the version of a snapshot is.
func TestVersionOfGit(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) string {
		return run(t, append([]string{"git", "-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, args...)...)
	}
	git("init", "-q")
	git("commit", "-q", "--allow-empty", "-m", "one")
	git("tag", "-m", "", "v1.2.3")
	git("commit", "-q", "--allow-empty", "-m", "two")
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	git("add", "f")
	said := strings.TrimSpace(git("describe", "--tags", "--always", "--dirty"))
	_, hash, _ := strings.Cut(said, "-1-")
	hash = strings.TrimSuffix(hash, "-dirty")
	if got, want := packageVersion(t, said, "1"), "1.2.3+1."+hash+".dirty"; got != want {
		t.Errorf("the packages of %q are %q, want %q", said, got, want)
	}
}
