//go:build e2e

package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/test/world"
)

// What was answered before kill -9 is answered after it, with the records gone
// and the policy hosts dead. With the whole DNS dead, mail to a domain that
// enforces is deferred, since DANE cannot be ruled out, and no other mail is.
func TestKilled(t *testing.T) {
	t.Parallel()
	replies := map[string]string{
		"enforce.test": world.Secure("mx.enforce.test"),
		"testing.test": world.NotFound,
		"none.test":    world.NotFound,
		"nothing.test": world.NotFound,
	}
	for _, c := range []struct {
		name  string
		fault dnstest.Fault
	}{
		{"TXT gone", dnstest.NXDomain},
		{"TXT SERVFAIL", dnstest.ServFail},
		{"TXT without answer", dnstest.Drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, d := start(t, world.Options{})
			w.Publish(t, "enforce.test", "1", world.Enforce(day, "mx.enforce.test"))
			w.Publish(t, "testing.test", "1", world.Testing(day, "mx.testing.test"))
			w.Publish(t, "none.test", "1", world.None(day))
			for domain, reply := range replies {
				want(t, d, domain, reply)
			}
			w.Hosts.TurnAll(world.Dead)
			w.DNS.Fault(dnstest.Any, "TXT", c.fault)
			d = restart(t, w, d, world.Options{})
			for domain, reply := range replies {
				want(t, d, domain, reply)
			}

			w.DNS.Fault(dnstest.Any, "TXT")
			w.DNS.Fault(dnstest.Any, dnstest.Any, c.fault)
			if c.fault == dnstest.NXDomain {
				w.DNS.Fault(dnstest.Any, dnstest.Any, dnstest.Refused)
			}
			d = restart(t, w, d, world.Options{})
			for domain, reply := range replies {
				if domain != "enforce.test" {
					want(t, d, domain, reply)
				} else if got := d.Ask(t, domain); !strings.HasPrefix(got, "TEMP ") {
					t.Errorf("%s: with a dead DNS the reply is %q, want TEMP", domain, got)
				}
			}
			w.DNS.ClearFaults()
			time.Sleep(recheck)
			got := d.Ask(t, "enforce.test")
			for end := time.Now().Add(10 * time.Second); strings.HasPrefix(got, "TEMP ") && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				got = d.Ask(t, "enforce.test")
			}
			if got != replies["enforce.test"] {
				t.Errorf("with the DNS well again the reply is %q, want %q", got, replies["enforce.test"])
			}
		})
	}
}

// A second daemon on the same store says so and ends, and the first goes on.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	w, d := start(t, world.Options{})
	w.Publish(t, "first.test", "1", world.Enforce(day, "mx.first.test"))
	second := w.Launch(t, world.Options{Program: world.Build(t, "-race"), State: d.State})
	if code := second.Wait(t); code != 2 {
		t.Errorf("the second daemon ended with %d, want 2", code)
	}
	if out := second.Log.String(); !strings.Contains(out, "in use by another process") || !strings.Contains(out, d.Store()) {
		t.Errorf("the second daemon said:\n%s", out)
	}
	want(t, d, "first.test", world.Secure("mx.first.test"))
	if code := d.Stop(t); code != 0 {
		t.Errorf("the first daemon ended with %d, want 0", code)
	}
	third := w.Start(t, world.Options{Program: world.Build(t, "-race"), State: d.State})
	w.Die()
	want(t, third, "first.test", world.Secure("mx.first.test"))
}
