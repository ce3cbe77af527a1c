//go:build e2e

package postfix_test

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// reuseTime is how long the relays of TestReusedConnection use a connection
// again; Postfix's own default is 300 s.
const reuseTime = 4 * time.Second

// TestReusedConnection shows a limit of the older release: on a connection that
// it has kept for a next-hop, it asks for no policy. One that was made before
// there was a policy goes on without, until Postfix makes another. The newer
// release asks each time, and makes another at once.
func TestReusedConnection(t *testing.T) {
	l := lab.New(t)
	script := l.StartScript(t)
	for _, c := range []struct {
		release lab.Release
		reused  bool
	}{
		{lab.System(), true},
		{lab.Next(), false},
	} {
		t.Run(c.release.String(), func(t *testing.T) {
			domain := "kept-" + c.release.String() + ".test"
			relay := l.StartPostfix(t, lab.PostfixOptions{Release: c.release, Settings: []string{
				"smtp_connection_cache_destinations = " + domain,
				"smtp_connection_cache_time_limit = 1h",
				"smtp_connection_reuse_time_limit = " + reuseTime.String(),
			}})
			host := l.AddDomain(t, lab.Domain{Name: domain, Host: lab.Stripped})
			for range 2 {
				if d := relay.Send(t, "user@"+domain); d.Status != "sent" || len(host.Sessions()) != 1 {
					t.Fatalf("before there is a policy: %s", d.Line)
				}
			}
			script.Answer(domain, strings.ReplaceAll(secure, "{mx}", "mx."+domain))
			asked := len(script.Asked(domain))
			reused := relay.Send(t, "user@"+domain)
			if (reused.Status == "sent") != c.reused || (len(script.Asked(domain)) == asked) != c.reused {
				t.Errorf("with a policy, on a connection from before it: %s", reused.Line)
			}
			began := time.Now()
			for d := reused; !strings.Contains(d.Line, lab.NotOffered.Says); d = relay.Send(t, "user@"+domain) {
				if took := time.Since(began); took > 5*reuseTime {
					t.Fatalf("after %v: %s", took, d.Line)
				}
				time.Sleep(reuseTime / 8)
			}
		})
	}
}
