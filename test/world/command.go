//go:build e2e

package world

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
)

// Command runs another command of the daemon's program, with the daemon's
// configuration and environment, as its operator does.
func (d *Daemon) Command(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, messages bytes.Buffer
	cmd := exec.CommandContext(t.Context(), d.cmd.Path, append(args, "--config", d.conf)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.cmd.Env, &out, &messages
	err := cmd.Run()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("running %q: %v", args, err)
	}
	return out.String(), messages.String(), cmd.ProcessState.ExitCode()
}

// Page reads a page on the admin socket, such as /metrics.
func (d *Daemon) Page(t testing.TB, path string) (status int, body string) {
	t.Helper()
	var dialer net.Dialer
	client := http.Client{Timeout: pageWithin, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", filepath.Join(filepath.Dir(d.conf), "admin.sock"))
		},
	}}
	answer, err := client.Get("http://daemon" + path)
	if err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	return answer.StatusCode, string(text)
}
