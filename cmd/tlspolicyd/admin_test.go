package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tlspolicyd/internal/config"
)

// Each script has a DNS server and policy hosts, and daemon.yaml, a
// configuration with which "tlspolicyd serve" finds them. The daemon answers
// Postfix at $ASK and the operator at $ADMIN. The command awaits PATH waits
// until somebody listens there.
func TestAdminScripts(t *testing.T) {
	hosts := startPolicyHosts(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/admin",
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return setUpAdmin(env, hosts) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "awaits": awaits,
		},
	})
}

func setUpAdmin(env *testscript.Env, hosts *policyHosts) error {
	w, err := startScriptWorld(env, adminZone)
	if err != nil {
		return err
	}
	ask, admin := filepath.Join(w.dir, "ask"), filepath.Join(w.dir, "run", "admin.sock")
	env.Setenv("ASK", ask)
	env.Setenv("ADMIN", admin)
	env.Setenv("TZ", "UTC")
	text := w.conf(hosts, ask) + fmt.Sprintf("cache: {file: %q}\nlog: {format: console}\n", filepath.Join(env.WorkDir, "policies.db"))
	socket := fmt.Sprintf("admin: {socket: %q}\n", admin)
	return writeFiles(env.WorkDir, map[string]string{
		"ca.pem": hosts.ca, "base.yaml": text, "daemon.yaml": text + socket,
		"memory.yaml": strings.Replace(text, "cache: {file: ", "cache: {file: none} # ", 1) + socket,
		"deaf.yaml":   text + "admin: {socket: /proc/nonexistent/admin.sock}\n",
	})
}

func TestRelative(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "now"},
		{-300 * time.Millisecond, "now"},
		{time.Second, "in 1 s"},
		{-119 * time.Second, "119 s ago"},
		{2 * time.Minute, "in 2 min"},
		{-119 * time.Minute, "119 min ago"},
		{3*time.Hour + 59*time.Minute, "in 4 h"},
		{-48 * time.Hour, "2 d ago"},
		{365 * 24 * time.Hour, "in 365 d"},
	} {
		if got := relative(tt.d); got != tt.want {
			t.Errorf("relative(%s) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestBytesOf(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {2 << 30, "2.0 GiB"}, {1 << 62, "4.0 EiB"},
	} {
		if got := bytesOf(tt.n); got != tt.want {
			t.Errorf("bytesOf(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestAdminSocketOfTheConfiguration(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "/run/other:/run/more")
	c := config.Default()
	if got, err := adminSocket(c); got != "/run/other/admin.sock" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	t.Setenv("RUNTIME_DIRECTORY", "relative")
	if got, err := adminSocket(c); err == nil {
		t.Errorf("got %q, want an error", got)
	}
	c.Admin.Socket = "/run/x.sock"
	if got, err := adminSocket(c); got != "/run/x.sock" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnUnreachableDaemonIsNamed(t *testing.T) {
	var messages bytes.Buffer
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("admin: {socket: "+filepath.Join(dir, "none")+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := run(t.Context(), []string{"status", "--config", file}, "", strings.NewReader(""), full{}, &messages)
	if code != exitUnknown || !strings.Contains(messages.String(), filepath.Join(dir, "none")) {
		t.Errorf("got %d, %q", code, messages.String())
	}
}
