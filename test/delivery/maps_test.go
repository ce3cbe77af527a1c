//go:build e2e

package delivery_test

import (
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// TestMaps: what each map, and each of its aliases, says of each kind of
// domain. They differ in two ways: with attributes for reports or without, and
// with DANE for domains without a policy that enforces or without.
func TestMaps(t *testing.T) {
	l := lab.New(t)
	daemon := l.StartDaemon(t, lab.DaemonOptions{})
	for _, d := range []struct {
		domain, policy string
		host           lab.HostKind
		tlsa           lab.TLSAKind
		// sts is what the maps say that are for MTA-STS, dane what those say
		// that answer for DANE too, and plain what the one says that does not
		// look at DANE.
		sts, dane, plain string
	}{
		{"nothing.test", "", lab.Right, lab.NoTLSA, "NOTFOUND ", "NOTFOUND ", "NOTFOUND "},
		{"plain.example", "", lab.Right, lab.NoTLSA, "NOTFOUND ", "NOTFOUND ", "NOTFOUND "},
		{"fits.example", "", lab.Right, lab.GoodTLSA, "NOTFOUND ", "OK dane-only", "NOTFOUND "},
		{"trial.example", trial, lab.Right, lab.GoodTLSA, "NOTFOUND ", "OK dane-only", "NOTFOUND "},
		{"trial.test", trial, lab.Right, lab.GoodTLSA, "NOTFOUND ", "NOTFOUND ", "NOTFOUND "},
		{"enforce.test", enforce, lab.Right, lab.GoodTLSA, "SECURE", "SECURE", "SECURE"},
		{"enforce.example", enforce, lab.Right, lab.NoTLSA, "SECURE", "SECURE", "SECURE"},
		{"both.example", enforce, lab.Right, lab.GoodTLSA, "OK dane-only", "OK dane-only", "SECURE"},
	} {
		added := lab.Domain{Name: d.domain, Host: d.host, TLSA: d.tlsa}
		if d.policy != "" {
			added.ID, added.Policy.Text = "1", strings.ReplaceAll(d.policy, "{mx}", "mx."+d.domain)
		}
		l.AddDomain(t, added)
		secure := secureFor(d.domain)
		reports := secure + " policy_type=sts policy_domain=" + d.domain + " mx_host_pattern=mx." + d.domain +
			" { policy_string = version: STSv1 } { policy_string = mode: enforce }" +
			" { policy_string = mx: mx." + d.domain + " } { policy_string = max_age: 86400 }"
		for mapName, want := range map[string]string{
			"policy":             strings.Replace(d.sts, "SECURE", secure, 1),
			"policy-tlsrpt":      strings.Replace(d.sts, "SECURE", reports, 1),
			"policy-dane":        strings.Replace(d.dane, "SECURE", secure, 1),
			"QUERY":              strings.Replace(d.dane, "SECURE", secure, 1),
			"policy-dane-tlsrpt": strings.Replace(d.dane, "SECURE", reports, 1),
			"QUERYwithTLSRPT":    strings.Replace(d.dane, "SECURE", reports, 1),
			"postfix":            strings.Replace(d.plain, "SECURE", secure, 1),
			"another":            strings.Replace(d.plain, "SECURE", secure, 1),
		} {
			for _, name := range []string{mapName, strings.ToUpper(mapName), strings.ToLower(mapName)} {
				if got := daemon.Ask(t, name, d.domain); got != want {
					t.Errorf("%s says of %s:\n%q, want\n%q", name, d.domain, got, want)
				}
			}
		}
	}
}
