//go:build e2e

package check_test

import (
	"fmt"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// addresses is a mail host with several addresses, each with a mail server of its
// own.
type addresses struct {
	name  string
	kinds []lab.HostKind
	// delivers says whether mail gets through.
	delivers bool
}

// Where one address of a host does not take mail, Postfix goes on to the next.
func TestHostsWithSeveralAddresses(t *testing.T) {
	l := lab.New(t)
	l.StartDaemon(t, lab.DaemonOptions{})
	ask := newCommand(t, l)
	relays := []*lab.Postfix{
		l.StartPostfix(t, lab.PostfixOptions{Release: lab.System(), Level: "may", Map: "policy"}),
		l.StartPostfix(t, lab.PostfixOptions{Release: lab.Next(), Level: "dane", Map: "policy-tlsrpt"}),
	}
	for i, a := range []addresses{
		{"one strips STARTTLS", []lab.HostKind{lab.Stripped, lab.Right}, true},
		{"one has expired", []lab.HostKind{lab.Expired, lab.Right}, true},
		{"only the fifth is right", []lab.HostKind{lab.Stripped, lab.Expired, lab.Unsigned, lab.OtherName, lab.Right}, true},
		{"none is right", []lab.HostKind{lab.Stripped, lab.Expired}, false},
	} {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			domain := publish(t, l, scene{policy: exact}, fmt.Sprintf("many%d", i))
			mx := "mx." + domain
			var records strings.Builder
			for _, kind := range a.kinds {
				fmt.Fprintf(&records, "%s. 60 A %s\n", mx, l.StartMailHost(t, l.Cert(t, kind, mx)).Addr)
			}
			l.Zones.Set(t, records.String())
			if said := ask(t, domain); said.Hosts[0].SMTP.Delivers != a.delivers || (said.Outcome == "authenticated") != a.delivers {
				t.Errorf("check says %+v", said)
			}
			for _, relay := range relays {
				if d := relay.Send(t, "user@"+domain); (d.Status == "sent") != a.delivers {
					t.Errorf("Postfix %s: %s", relay.Version, d.Line)
				}
			}
		})
	}
}
