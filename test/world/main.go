//go:build e2e

package world

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// insideVar names the directory of the tests to the process that was started
// in namespaces of its own.
const insideVar = "TLSPOLICYD_WORLD"

// parallel is how many tests run at a time: they wait for the daemon's timers
// far more than they compute.
const parallel = "8"

// Main runs the tests in namespaces of their own, and ends the process. It is
// all that TestMain has to call.
func Main(m *testing.M) {
	if os.Getenv(insideVar) == "" {
		os.Exit(outside())
	}
	if err := enter(); err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}

// outside starts the binary again, waits for it, removes what it left and
// returns its exit code.
func outside() (code int) {
	// The signal on the parent's death is sent when this thread ends.
	runtime.LockOSThread()
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "world: must be run by root, for namespaces and low ports")
		return 2
	}
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		return 2
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "world:", err)
			code = 2
		}
	}()
	// What is said on the command line goes before this.
	args := append([]string{"-test.parallel=" + parallel}, os.Args[1:]...)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideVar+"="+dir, "TMPDIR="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "world: starting in new namespaces:", err)
		return 2
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 2
}

// enter makes the namespaces a place to live in.
func enter() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("setting the loopback device up: %w: %s", err, out)
	}
	return nil
}
