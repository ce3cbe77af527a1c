//go:build e2e

package delivery_test

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// TestKilled: what was learned survives a crash, whatever the network says
// afterwards; and a failure of the DNS never lowers it.
func TestKilled(t *testing.T) {
	const domain = "kept.test"
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	options := lab.DaemonOptions{DNS: tapAddr, AnswerWithin: 2 * time.Second}
	daemon := l.StartDaemon(t, options)
	publish(t, l, domain, enforce)
	if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
		t.Fatalf("the reply is %q", got)
	}
	daemon.Kill()

	l.Policies.Remove(domain)
	l.Zones.Remove(t, "_mta-sts."+domain+".", "TXT")
	daemon = l.StartDaemon(t, options)
	if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
		t.Errorf("after a crash, with record and host gone: %q", got)
	}
	daemon.Kill()

	tap.SetFault(func(lab.Question) lab.Fault { return lab.Drop })
	daemon = l.StartDaemon(t, options)
	if got := daemon.Ask(t, "policy", domain); !strings.HasPrefix(got, "TEMP ") {
		t.Errorf("after a crash, with no DNS: %q, want TEMP", got)
	}
	if got := daemon.Ask(t, "policy", "unknown.test"); got != "NOTFOUND " {
		t.Errorf("a domain never heard of, with no DNS: %q", got)
	}
	if code := daemon.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
