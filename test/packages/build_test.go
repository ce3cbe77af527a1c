//go:build e2e

package packages_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"tlspolicyd/test/lab"
)

// build makes the packages of a version from a source tree, in a directory of
// its own.
func build(t *testing.T, source, version string, arches ...string) string {
	t.Helper()
	dist := filepath.Join(t.TempDir(), "dist")
	cmd := exec.Command(filepath.Join(source, "packaging/build.sh"))
	cmd.Env = append(os.Environ(), "VERSION="+version, "DIST="+dist, "ARCHES="+strings.Join(arches, " "),
		"SOURCE_DATE_EPOCH=1767225600")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the packages: %v\n%s", err, out)
	}
	return dist
}

// deb and rpm return the package of a version for this machine, where the box sees
// it. It is made once.
func deb(t *testing.T, version string) string {
	t.Helper()
	return one(t, packages(t, version), "*.deb")
}

func rpm(t *testing.T, version string) string {
	t.Helper()
	return one(t, packages(t, version), "*.rpm")
}

// packages returns the directory of the packages of a version for this machine.
func packages(t *testing.T, version string) string {
	t.Helper()
	dir := filepath.Join("/run/lab/packages", version)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	made := build(t, "../..", version, runtime.GOARCH)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mv", one(t, made, "*.deb"), one(t, made, "*.rpm"), dir)
	return dir
}

// copySource copies the source tree to a directory of its own.
func copySource(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	run(t, "sh", "-ec", `cd "$1"; git ls-files -z --cached --others --exclude-standard --deduplicate |
		tar --create --null --files-from=- --ignore-failed-read 2>/dev/null | tar --extract --directory="$2"`, "sh", from, to)
	return to
}

// one returns the only file in dir that fits.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %q, %v", pattern, dir, found, err)
	}
	return found[0]
}

// run runs a program that must succeed, and returns what it prints.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// sums are the checksums of the packages in dir, by name.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*.deb", "*.rpm"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(path)] = fmt.Sprintf("%x", sha256.Sum256(text))
		}
	}
	return all
}

func TestBuildsAreEqual(t *testing.T) {
	source := copySource(t, "../..")
	first := build(t, source, "1.0.0", "amd64", "arm64")
	want := sums(t, first)
	if len(want) != 4 {
		t.Fatalf("packages: %v", want)
	}
	other := t.TempDir()
	run(t, "cp", "-R", source+"/.", other)
	// By somebody else, elsewhere, at another time.
	run(t, "find", other, "-exec", "touch", "-d", "2001-01-01", "{}", "+")
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "C.UTF-8")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	if got := sums(t, build(t, other, "1.0.0", "amd64", "arm64")); !maps.Equal(got, want) {
		t.Errorf("two builds of the same source differ:\n%v\n%v", got, want)
	}
	t.Run("lintian", func(t *testing.T) {
		for _, arch := range []string{"amd64", "arm64"} {
			run(t, "lintian", "--allow-root", "--fail-on", "error,warning", one(t, first, "*_"+arch+".deb"))
		}
	})
	for _, arch := range []struct {
		deb, rpm  string
		processor elf.Machine
	}{{"amd64", "x86_64", elf.EM_X86_64}, {"arm64", "aarch64", elf.EM_AARCH64}} {
		t.Run(arch.deb, func(t *testing.T) {
			path, dir := one(t, first, "*_"+arch.deb+".deb"), t.TempDir()
			if got := strings.TrimSpace(run(t, "dpkg-deb", "--field", path, "Architecture")); got != arch.deb {
				t.Errorf("the package for Debian is for %s", got)
			}
			run(t, "dpkg", "-x", path, dir)
			static(t, filepath.Join(dir, "usr/bin/tlspolicyd"), arch.processor)
			path = one(t, first, "*."+arch.rpm+".rpm")
			if got := run(t, "rpm", "-qp", "--qf", "%{arch}", path); got != arch.rpm {
				t.Errorf("the package for rpm is for %s", got)
			}
			static(t, filepath.Join(installRPM(t, path), "usr/bin/tlspolicyd"), arch.processor)
		})
	}
}

// installRPM unpacks a package into a root of its own, and has rpm verify it. Its
// scripts are run by TestLifeOfRPM.
func installRPM(t *testing.T, path string) (root string) {
	root = t.TempDir()
	do := func(args ...string) string {
		return run(t, append([]string{"rpm", "--root", root, "--dbpath", "/var/lib/rpm"}, args...)...)
	}
	do("--initdb")
	do("-i", "--nodeps", "--noscripts", "--ignorearch", path)
	do("-V", "--nodeps", "--noscripts", "--nouser", "--nogroup", "tlspolicyd")
	if got := strings.TrimSpace(do("-qc", "tlspolicyd")); got != "/etc/tlspolicyd/tlspolicyd.yaml" {
		t.Errorf("configuration files: %q", got)
	}
	sameFile(t, filepath.Join(root, "etc/tlspolicyd/tlspolicyd.yaml"), "../../internal/config/default.yaml")
	return root
}

// static wants a program of one file for a processor.
func static(t *testing.T, path string, processor elf.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if f.Machine != processor || err != nil || len(libraries) > 0 {
		t.Errorf("%s is for %v and needs %q, %v", path, f.Machine, libraries, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s needs a loader", path)
		}
	}
}

// read returns what is in a file.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sameFile wants two files to have the same content.
func sameFile(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s is not as %s", got, want)
	}
}

func TestExposure(t *testing.T) {
	// The threshold is ten times the exposure.
	run(t, "systemd-analyze", "security", "--offline=yes", "--threshold=15", "../../packaging/systemd/tlspolicyd.service")
}

// background starts a program that ends with the test, and returns its number.
func background(t *testing.T, out *lab.Log, args ...string) int {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}
