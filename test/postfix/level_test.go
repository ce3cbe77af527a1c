//go:build e2e

package postfix_test

import (
	"slices"
	"testing"

	"tlspolicyd/test/lab"
)

// TestOwnLevel: an answer "not found" leaves the level to Postfix, which does
// DANE by itself.
func TestOwnLevel(t *testing.T) {
	l := lab.New(t)
	l.StartScript(t)
	for _, release := range []lab.Release{lab.System(), lab.Next()} {
		relay := l.StartPostfix(t, lab.PostfixOptions{Release: release, Level: "dane"})
		for _, r := range []row{
			{name: "good", tlsa: lab.GoodTLSA, want: lab.Verified},
			{name: "wrong", tlsa: lab.WrongTLSA, want: lab.WrongKey},
			{name: "none", want: lab.Trusted},
			{name: "stripped", tlsa: lab.WrongTLSA, host: lab.Stripped, want: lab.NotOffered},
		} {
			t.Run(release.String()+"/"+r.name, func(t *testing.T) {
				t.Parallel()
				domain := r.name + "-" + release.String() + ".example"
				host := l.AddDomain(t, lab.Domain{Name: domain, Host: r.host, TLSA: r.tlsa})
				relay.Check(t, relay.Send(t, "user@"+domain), domain, host, r.want)
			})
		}
	}
}

// TestKeys: what Postfix asks, for each way to name a next-hop.
func TestKeys(t *testing.T) {
	l := lab.New(t)
	script := l.StartScript(t)
	hosts := map[string]*lab.MailHost{}
	for _, domain := range []string{"plain.test", "smart.test"} {
		hosts[domain] = l.AddDomain(t, lab.Domain{Name: domain})
	}
	for _, release := range []lab.Release{lab.System(), lab.Next()} {
		relay := l.StartPostfix(t, lab.PostfixOptions{Release: release, Map: "of-" + release.String(), Settings: []string{
			`transport_maps = inline:{
 { host.invalid = smtp:[mx.smart.test] }
 { port.invalid = smtp:[mx.smart.test]:25 }
 { service.invalid = smtp:[mx.smart.test]:smtp }
 { domain.invalid = smtp:smart.test:25 }
 { address.invalid = smtp:[` + hosts["smart.test"].Addr + `] } }`,
		}})
		for _, c := range []struct {
			to   string
			keys []string
		}{
			{"user@plain.test", []string{"plain.test", ".test"}},
			{"user@PLAIN.Test", []string{"PLAIN.Test", ".Test"}},
			{"user@host.invalid", []string{"[mx.smart.test]"}},
			{"user@port.invalid", []string{"[mx.smart.test]:25"}},
			{"user@service.invalid", []string{"[mx.smart.test]:smtp"}},
			{"user@domain.invalid", []string{"smart.test:25"}},
			{"user@address.invalid", []string{"[" + hosts["smart.test"].Addr + "]"}},
		} {
			t.Run(release.String()+"/"+c.to, func(t *testing.T) {
				before := len(script.Asked("of-" + release.String() + " "))
				if d := relay.Send(t, c.to); d.Status != "sent" {
					t.Errorf("not delivered: %s", d.Line)
				}
				var want []string
				for _, key := range c.keys {
					want = append(want, "of-"+release.String()+" "+key)
				}
				if got := script.Asked("of-" + release.String() + " ")[before:]; !slices.Equal(got, want) {
					t.Errorf("asked %q, want %q", got, want)
				}
			})
		}
	}
}
