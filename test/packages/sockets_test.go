//go:build e2e

package packages_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestEnableUnderLoad gives the daemon a socket in the chroot, as postfix.md has
// it, while it is asked over TCP: no question may be lost, and both sockets are
// served afterwards.
func TestEnableUnderLoad(t *testing.T) { onBoth(t, enableUnderLoad) }

func enableUnderLoad(t *testing.T, s system) {
	const times, clients = 5, 4
	b := install(t, s)
	expect(t, b, tcp, enforced, secure)
	l := &load{addr: tcp, key: enforced, want: secure}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() { l.run(ctx, t) })
	}
	for range times {
		openInChroot(t, b)
		expect(t, b, "unix:"+filepath.Join(b.root, unixPath), enforced, secure)
		b.do(t, "systemctl", "disable", "--now", "tlspolicyd-postfix.socket")
		b.do(t, "systemctl", "restart", "tlspolicyd.service")
	}
	stop()
	asking.Wait()
	t.Logf("%d lookups over %d connections while the socket was enabled %d times", l.asked.Load(), l.opened.Load(), times)
	if l.opened.Load() < clients+times {
		t.Errorf("%d connections: the load has not seen the restarts", l.opened.Load())
	}
}

// TestPostfixComesAfter wants what starts Postfix on this machine to be started after
// the daemon, and so to end before it.
func TestPostfixComesAfter(t *testing.T) {
	b := install(t, this)
	for _, unit := range []string{"postfix.service", "postfix@-.service"} {
		if after := strings.Fields(b.do(t, "systemctl", "show", "--property=After", "--value", unit)); !slices.Contains(after, units[0]) {
			t.Errorf("%s comes after %q", unit, after)
		}
	}
}

// openInChroot does what postfix.md and the manual tell for a socket in the chroot.
func openInChroot(t *testing.T, b *box) {
	t.Helper()
	block := blocks(section(t, "docs/postfix.md", "## The chroot"))[0]
	if !strings.Contains(read(t, "../../packaging/man/tlspolicyd.8"), block) {
		t.Fatalf("the manual does not say as the page does:\n%s", block)
	}
	if _, ran := b.follow(t, block, ""); ran == 0 {
		t.Fatalf("no commands:\n%s", block)
	}
}

// TestMoveUnderLoad has the daemon listen elsewhere, as migrating.md has it, while
// it is asked over both of its sockets. Who asks over TCP may be refused for a
// moment, but not who asks over the other.
func TestMoveUnderLoad(t *testing.T) { onBoth(t, moveUnderLoad) }

func moveUnderLoad(t *testing.T, s system) {
	const times, clients = 5, 4
	b := install(t, s)
	openInChroot(t, b)
	local := "unix:" + filepath.Join(b.root, unixPath)
	expect(t, b, local, enforced, secure)
	expect(t, b, tcp, enforced, secure)
	found := sentence.FindStringSubmatch(section(t, "docs/migrating.md", "## From postfix-tlspol"))
	if found == nil {
		t.Fatal("migrating.md does not say how an edited socket comes into force")
	}
	l := &load{addr: local, key: enforced, want: secure}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() { l.run(ctx, t) })
		asking.Go(func() { pester(ctx, tcp) })
	}
	for range times {
		b.do(t, "sh", "-ec", found[1])
		expect(t, b, tcp, enforced, secure)
	}
	stop()
	asking.Wait()
}

// pester asks again and again, whether there is an answer or not.
func pester(ctx context.Context, addr string) {
	c := &client{addr: addr}
	defer c.close()
	for ctx.Err() == nil {
		if _, err := c.ask(ctx, enforced); err != nil && c.conn != nil {
			c.close()
			c.conn = nil
		}
	}
}
