package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/socketmap"
)

// TestNobodyReadsTheLog closes the pipe that takes the log, as a supervisor's logger
// does when it ends: mail goes on.
func TestNobodyReadsTheLog(t *testing.T) {
	dir := t.TempDir()
	addr := "unix:" + filepath.Join(dir, "policy.sock")
	file := filepath.Join(dir, "c.yaml")
	text := fmt.Sprintf("listen: [%q]\ndns: {servers: [\"127.0.0.1:1\"]}\ncache: {file: none}\nadmin: {socket: %q}\n", addr, filepath.Join(dir, "admin.sock"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.CommandContext(t.Context(), "tlspolicyd", "serve", "--config", file)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		client, err := socketmap.Dial(t.Context(), addr)
		if err == nil {
			_, err = client.Lookup(t.Context(), "policy", ".example")
			client.Close()
		}
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the daemon has ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the daemon ended with: %v", err)
	}
}
