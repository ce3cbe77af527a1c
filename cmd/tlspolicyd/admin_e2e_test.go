//go:build e2e

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tlspolicyd/internal/config"
)

// An ordinary user can neither list what is known nor purge it.
func TestTheAdminSocketIsForNobodyElse(t *testing.T) {
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "tlspolicyd")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "install", "-m", "755", self, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := config.Default()
	c.Admin.Socket = filepath.Join(dir, "run", "admin.sock")
	l, err := listenAdmin(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("admin: {socket: "+c.Admin.Socket+"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	for _, args := range [][]string{{"cache", "list"}, {"cache", "purge", "--all"}, {"status"}} {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--config", file)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = dir
		var messages bytes.Buffer
		cmd.Stderr = &messages
		exit, ok := errors.AsType[*exec.ExitError](cmd.Run())
		if !ok || exit.ExitCode() != exitUnknown || !strings.Contains(messages.String(), "permission denied") {
			t.Errorf("%v: got %v, %s", args, exit, messages.String())
		}
	}
}
