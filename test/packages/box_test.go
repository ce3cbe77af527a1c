//go:build e2e

// Package packages_test installs the packages on a machine of its own, where
// systemd is the first process, and looks at how the daemon lives there.
package packages_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// bootWithin is how long systemd may take to start.
const bootWithin = 30 * time.Second

// system is what a box begins with.
type system struct {
	name string
	// root is the directory that it is in.
	root string
}

// this is the system of this machine.
var this = system{name: "this", root: "/"}

// next is the system of the next Debian release with its systemd, which
// test/setup.sh builds.
func next(t *testing.T) system {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = "/var/cache"
	}
	root := filepath.Join(cache, "tlspolicyd-test/trixie-systemd")
	if _, err := os.Stat(filepath.Join(root, ".complete")); err != nil {
		t.Fatalf("run test/setup.sh: %v", err)
	}
	return system{name: "next", root: root}
}

// onBoth runs a test on this machine's system, and on the next one.
func onBoth(t *testing.T, test func(t *testing.T, s system)) {
	t.Helper()
	for _, s := range []system{this, next(t)} {
		t.Run(s.name, func(t *testing.T) { test(t, s) })
	}
}

// box is a system with a systemd of its own. What is changed in it is gone with
// the test.
type box struct {
	// pid is its first process, seen from outside.
	pid int
	// root is its file system, seen from outside.
	root string
}

// startBox starts a system that shares the lab's network.
func startBox(t *testing.T, s system) *box {
	t.Helper()
	group := controlGroup(t)
	said := &lab.Log{}
	cmd := exec.Command("sh", "box.sh", t.TempDir(), group, s.root)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The first process goes with its parent, and all others with it.
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
	})
	b := &box{}
	until(t, bootWithin, func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err != nil {
			return fmt.Errorf("%w; it said:\n%s", err, said.String())
		}
		if b.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
			return err
		}
		b.root = fmt.Sprintf("/proc/%d/root", b.pid)
		out, err := b.try("systemctl", "is-active", "box.target")
		if err != nil {
			return fmt.Errorf("%w: %s; it said:\n%s", err, out, said.String())
		}
		return nil
	})
	return b
}

// controlGroup makes a control group for a system, which is removed after the
// test.
func controlGroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		field := strings.Fields(line)
		if field[2] != "cgroup2" {
			continue
		}
		group, err := os.MkdirTemp(field[1], "tlspolicyd-test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { removeGroup(t, group) })
		return group
	}
	t.Fatal("there is no file system of control groups")
	return ""
}

// removeGroup removes a control group and those below it, once their processes
// are gone.
func removeGroup(t *testing.T, group string) {
	until(t, 10*time.Second, func() error {
		var left error
		var dirs []string
		err := filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			left = errors.Join(left, syscall.Rmdir(dirs[i]))
		}
		return errors.Join(err, left)
	})
}

// until repeats what fails until it succeeds.
func until(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %v: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// try runs a program in the box and returns what it prints.
func (b *box) try(args ...string) (string, error) {
	enter := []string{"--target", strconv.Itoa(b.pid), "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--"}
	cmd := exec.Command("nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// do runs a program in the box that must succeed.
func (b *box) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.try(args...)
	if err != nil {
		t.Fatalf("%q: %v: %s\nthe journal:\n%s", args, err, out, b.journal())
	}
	return out
}

// journal is what the daemon has logged, and what systemd says of its units.
func (b *box) journal() string {
	_, _ = b.try("journalctl", "--sync")
	out, _ := b.try("journalctl", "--no-pager", "--quiet", "--output=cat", "--unit=tlspolicyd*") // or why not
	return out
}

// property returns a property of the service, as systemd has it.
func (b *box) property(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(b.do(t, "systemctl", "show", "--property", name, "--value", "tlspolicyd.service"))
}

// write writes a file of the box.
func (b *box) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(b.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// exists reports whether there is a file in the box.
func (b *box) exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(filepath.Join(b.root, path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}
