//go:build e2e

package packages_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// TestChrootSocket asks over the socket in Postfix's chroot, with a program of
// Postfix and as its user.
func TestChrootSocket(t *testing.T) {
	b := install(t, this)
	openInChroot(t, b)
	b.write(t, "/etc/tlspolicyd-postfix/main.cf", "compatibility_level = 3.6\n")
	ask := func(user string) (string, error) {
		return b.try("runuser", "-u", user, "--", "sh", "-c",
			"cd /var/spool/postfix && /usr/sbin/postmap -c /etc/tlspolicyd-postfix -q "+enforced+" socketmap:unix:tlspolicyd/policy.sock:policy")
	}
	if got, err := ask("postfix"); err != nil || "OK "+strings.TrimSpace(got) != secure {
		t.Errorf("Postfix is told %q, %v; the journal:\n%s", got, err, b.journal())
	}
	if got, err := ask("nobody"); err == nil {
		t.Errorf("another user is told %q", got)
	}
	expect(t, b, tcp, enforced, secure)
	b.do(t, "systemctl", "stop", "tlspolicyd.service", "tlspolicyd-postfix.socket")
	if b.exists(t, unixPath) {
		t.Error("the file of the socket is left")
	}
}

// TestSnippets has Postfix and Unbound read what is meant for them.
func TestSnippets(t *testing.T) {
	snippets, err := filepath.Glob("../../contrib/postfix/*.cf")
	if err != nil || len(snippets) == 0 {
		t.Fatalf("snippets: %q, %v", snippets, err)
	}
	for _, path := range snippets {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		run(t, "touch", filepath.Join(dir, "master.cf"))
		if err := os.WriteFile(filepath.Join(dir, "main.cf"), append([]byte("compatibility_level = 3.6\n"), text...), 0o644); err != nil {
			t.Fatal(err)
		}
		said := run(t, "postconf", "-c", dir, "-n")
		if !strings.Contains(said, "smtp_tls_policy_maps = socketmap:") {
			t.Errorf("%s sets no map:\n%s", path, said)
		}
		// The TLS reports are of a newer release than this one may be.
		for line := range strings.Lines(said) {
			if strings.Contains(line, "warning") && !strings.Contains(line, "tlsrpt") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
	run(t, "unbound-checkconf", "../../contrib/unbound/tlspolicyd.conf")
}

// TestContainer runs what the image would: the program and its roots, and no
// other file, as a user without rights.
func TestContainer(t *testing.T) {
	context := filepath.Join(t.TempDir(), "context")
	run(t, "../../contrib/container/build.sh", context)
	root := filepath.Join(context, "root")
	inside := []string{"env", "-i", "PATH=/usr/sbin:/usr/bin", "STATE_DIRECTORY=/var/lib/tlspolicyd", "RUNTIME_DIRECTORY=/run/tlspolicyd",
		"chroot", "--userspec=8461:8461", root, "/usr/bin/tlspolicyd"}
	out := &lab.Log{}
	background(t, out, append(inside, "serve")...)
	until(t, 10*time.Second, func() error {
		c := &client{addr: tcp}
		defer c.close()
		if _, err := c.ask(t.Context(), ".example"); err != nil {
			return fmt.Errorf("%w; it said:\n%s", err, out.String())
		}
		return nil
	})
	run(t, append(inside, "status")...) // the health check
	if errors := out.About(`"level":"error"`); len(errors) > 0 {
		t.Errorf("errors in the log: %q", errors)
	}
}
