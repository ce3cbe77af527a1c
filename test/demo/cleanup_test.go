//go:build e2e

package demo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCleansUp runs the demonstration as "make demo" does, and looks for what it
// leaves behind: processes, files, mounts, addresses.
func TestCleansUp(t *testing.T) {
	before := traces(t)
	cmd := exec.CommandContext(t.Context(), "./run.sh")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TLSPOLICYD_LAB=") })
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("the demonstration: %v", err)
	}
	if !strings.HasPrefix(string(out), "Of ") {
		t.Errorf("it does not begin with a sentence of what is seen:\n%s", out)
	}
	for what, was := range before {
		if is := traces(t)[what]; is != was {
			t.Errorf("%s before:\n%s\nafter:\n%s", what, was, is)
		}
	}
}

// traces are what a program may leave behind on a machine. This test has a
// process id space, mounts and a network to itself.
func traces(t *testing.T) map[string]string {
	t.Helper()
	list := func(pattern string) string {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, "\n")
	}
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return map[string]string{
		"processes":       list("/proc/[0-9]*"),
		"temporary files": list(os.TempDir() + "/*"),
		"files in /run":   list("/run/*"),
		"files here":      list("*"),
		"mounts":          read("/proc/self/mounts"),
		"sockets":         read("/proc/net/unix"),
		"open TCP ports":  listening(read("/proc/net/tcp")),
		"resolver":        read("/etc/resolv.conf"),
	}
}

// listening returns the addresses in a table of sockets at which somebody
// listens.
func listening(table string) string {
	const listen = "0A"
	var addresses []string
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); f[3] == listen {
			addresses = append(addresses, f[1])
		}
	}
	return strings.Join(addresses, "\n")
}
