//go:build e2e

package packages_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNoSpaceForStore starts the daemon on a full disk without a file of the store:
// it answers, says what that means, and makes the file when there is space.
func TestNoSpaceForStore(t *testing.T) {
	const dir, unmade, unwritten = "/var/lib/tlspolicyd", "there is no space for the file of the store", "a policy could not be stored"
	b := install(t, this)
	b.do(t, "systemctl", "stop", "tlspolicyd.socket", "tlspolicyd.service")
	b.do(t, "rm", "-rf", dir)
	b.do(t, "install", "-d", "-o", "tlspolicyd", "-g", "tlspolicyd", "-m", "700", dir)
	b.do(t, "mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", dir)
	if out, err := b.try("dd", "if=/dev/zero", "of="+dir+"/filler", "bs=64k"); err == nil {
		t.Fatalf("the disk is not full: %s", out)
	}
	b.do(t, "systemctl", "start", "tlspolicyd.service")
	expect(t, b, tcp, enforced, secure)
	if out := b.do(t, "tlspolicyd", "status"); !strings.Contains(out, "it cannot be written to at present") {
		t.Errorf("the status is:\n%s", out)
	}
	for _, want := range []string{unmade, unwritten, "no space left on device"} {
		if said := b.journal(); !strings.Contains(said, want) {
			t.Errorf("the log lacks %q:\n%s", want, said)
		}
	}
	b.do(t, "rm", dir+"/filler")
	until(t, 40*time.Second, func() error {
		if !b.exists(t, filepath.Join(dir, "policies.db")) {
			return fmt.Errorf("no file was made; the journal:\n%s", b.journal())
		}
		out, err := b.try("tlspolicyd", "cache", "list")
		if err == nil && !strings.Contains(out, enforced) {
			err = fmt.Errorf("the store has:\n%s", out)
		}
		return err
	})
}
