package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/internal/config"
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

// An address that the configuration itself has taken is not told as that of somebody
// else.
func TestAddressesInEachOthersWay(t *testing.T) {
	l := listenTCP(t)
	port := l.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	c, err := config.Parse("f", fmt.Appendf(nil, "listen: [\":%[1]d\", \"127.0.0.1:%[1]d\"]\n", port))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(c, zap.NewNop()); err == nil || strings.Contains(err.Error(), "same configuration") {
		t.Errorf("another program is in the way: %v", err)
	}
	beside, err := config.Parse("f", fmt.Appendf(nil, "listen: [\"127.0.0.2:%[1]d\", \"127.0.0.1:%[1]d\"]\n", port))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(beside, zap.NewNop()); err == nil || strings.Contains(err.Error(), "same configuration") {
		t.Errorf("another program is in the way, at the port of another address: %v", err)
	}
	l.Close()
	if _, err := listen(c, zap.NewNop()); err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf(":%d of the same configuration", port)) {
		t.Errorf("the other address is in the way: %v", err)
	}
	if c, err = config.Parse("f", fmt.Appendf(nil, "listen: [%q]\nadmin: {socket: %q}\n", "unix:"+socket, dir+"/other")); err != nil {
		t.Fatal(err)
	}
	listeners, err := listen(c, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer listeners[0].Close()
	c.Admin.Socket = socket // as by default in the runtime directory
	if _, err := listenAdmin(c, listeners); err == nil || !strings.HasSuffix(err.Error(), "it is a socket of the policy map") {
		t.Errorf("the socket of the map is in the way of the admin socket: %v", err)
	}
}
