//go:build e2e

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// insideVar marks the process that was started in namespaces of its own.
const insideVar = "TLSPOLICYD_LAB"

// runDir is a file system of the lab's own, seen at the same path from the
// tree of the other release.
const runDir = "/run/lab"

// Main runs the tests in namespaces of their own, and ends the process. It is
// all that TestMain has to call.
func Main(m *testing.M) {
	if os.Getenv(insideVar) == "" {
		os.Exit(outside())
	}
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// outside starts the binary again, waits for it and returns its exit code.
func outside() int {
	// The signal on the parent's death is sent when this thread ends.
	runtime.LockOSThread()
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "lab: must be run by root, for namespaces and low ports")
		return 2
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"=inside")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "lab: starting in new namespaces:", err)
		return 2
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 2
}

// enter makes the namespaces a place to live in.
func enter() error {
	resolv, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(runDir, "tmp"), 0o755); err != nil {
		return err
	}
	if err := os.Setenv("TMPDIR", filepath.Join(runDir, "tmp")); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte("relay.example")); err != nil {
		return fmt.Errorf("naming the host: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("setting the loopback device up: %w: %s", err, out)
	}
	if err := ownResolvConf(resolv); err != nil {
		return err
	}
	return joinTree()
}

// ownResolvConf makes Unbound the only resolver. The machine's file may be a
// link to one below /run, which is not there any more.
func ownResolvConf(target string) error {
	own := filepath.Join(runDir, "resolv.conf")
	if err := os.WriteFile(own, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		return err
	}
	if target == "" {
		return errors.New("the machine has no /etc/resolv.conf to put the lab's in the place of")
	}
	if strings.HasPrefix(target, "/run/") {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, []byte("nameserver 127.0.0.1\n"), 0o644)
	}
	return bind(own, target)
}

// bind mounts from at the place of to, both files or both directories.
func bind(from, to string) error {
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", from, to, err)
	}
	return nil
}
