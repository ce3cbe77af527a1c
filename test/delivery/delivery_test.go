//go:build e2e

// Package delivery_test shows what becomes of mail on a relay that asks
// tlspolicyd: whom it reaches, how, and what an attacker gets to see.
package delivery_test

import (
	"fmt"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// relay is a release of Postfix with the map that its manual recommends.
type relay struct {
	release lab.Release
	options lab.PostfixOptions
}

func relays() []relay {
	return []relay{
		{lab.System(), lab.PostfixOptions{Release: lab.System(), Level: "may", Map: "policy", Settings: smartHosts}},
		{lab.Next(), lab.PostfixOptions{Release: lab.Next(), Level: "dane", Map: "policy-tlsrpt", Settings: smartHosts}},
	}
}

// smartHosts sends mail of two domains, one of each relay, to hosts by name.
var smartHosts = []string{`transport_maps = inline:{
 { system.invalid = smtp:[host.system.test]:25 }
 { next.invalid = smtp:[host.next.test]:smtp } }`}

// row is one domain, what it publishes, and what its mail host does.
type row struct {
	name string
	// policy is the file, with {mx} and {domain} in it; empty means that there
	// is no MTA-STS record.
	policy string
	// answer is what else the policy host does.
	answer lab.Policy
	// records come on top of, or in the place of, those of the domain.
	records string

	host lab.HostKind
	tlsa lab.TLSAKind
	// signed puts the domain below example.
	signed bool
	// forged gives the mail host a name of its own, outside of the policy.
	forged bool
	// mx is the name of the mail host; empty means mx.{domain}.
	mx string
	// want is what both releases do; next is what the newer one does, if that
	// is something else.
	want, next lab.Outcome
}

// Policies of one host, and of all hosts below the domain.
const (
	enforce  = "version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400\n"
	wildcard = "version: STSv1\nmode: enforce\nmx: *.{domain}\nmax_age: 86400\n"
	trial    = "version: STSv1\nmode: testing\nmx: {mx}\nmax_age: 86400\n"
	none     = "version: STSv1\nmode: none\nmax_age: 86400\n"
)

// TestDelivery sends a mail to the domain of each row through both relays.
func TestDelivery(t *testing.T) {
	groups := map[string][]row{"enforce": enforceRows(), "free": freeRows(), "hostile": hostileRows()}
	l := lab.New(t)
	l.StartDaemon(t, lab.DaemonOptions{})
	for _, r := range relays() {
		postfix := l.StartPostfix(t, r.options)
		for group, rows := range groups {
			for n, row := range rows {
				t.Run(fmt.Sprintf("%s/%s/%s", r.release, group, row.name), func(t *testing.T) {
					t.Parallel()
					label := fmt.Sprintf("%s%d-%s", group, n, r.release)
					deliver(t, l, postfix, row, label, row.wanted(r.release))
				})
			}
		}
		t.Run(r.release.String()+"/smart host", func(t *testing.T) {
			t.Parallel()
			deliverBy(t, l, postfix, r.release.String())
		})
		t.Run(r.release.String()+"/second host", func(t *testing.T) {
			t.Parallel()
			deliverPast(t, l, postfix, "second-"+r.release.String()+".test")
		})
	}
}

// deliverPast: an attacker who stands in the place of the best MX host does not
// get the mail; the next host does.
func deliverPast(t *testing.T, l *lab.Lab, postfix *lab.Postfix, domain string) {
	t.Helper()
	text := strings.ReplaceAll(enforce, "{mx}", "*."+domain)
	host := l.AddDomain(t, lab.Domain{Name: domain, ID: "1", Policy: lab.Policy{Text: text}})
	attacker := l.StartMailHost(t, nil)
	l.Zones.Set(t, "first."+domain+". 60 A "+attacker.Addr+"\n"+
		domain+". 60 MX 5 first."+domain+".\n"+domain+". 60 MX 10 mx."+domain+".")
	postfix.Check(t, postfix.Send(t, "user@"+domain), domain, host, lab.Verified)
	if len(attacker.Sessions()) == 0 || attacker.MailInClear() {
		t.Errorf("the attacker saw %d sessions, a mail among them: %v", len(attacker.Sessions()), attacker.MailInClear())
	}
}

func (r row) wanted(release lab.Release) lab.Outcome {
	if release == lab.Next() && r.next != (lab.Outcome{}) {
		return r.next
	}
	return r.want
}

// deliverBy: a smart host is held to a policy of its own name
// (RFC 8461, section 3.4).
func deliverBy(t *testing.T, l *lab.Lab, postfix *lab.Postfix, label string) {
	t.Helper()
	name := "host." + label + ".test"
	attacker := l.AddDomain(t, lab.Domain{Name: name, MX: name, Host: lab.OtherName, ID: "1",
		Policy: lab.Policy{Text: strings.ReplaceAll(enforce, "{mx}", name)}})
	d := postfix.Send(t, "user@"+label+".invalid")
	postfix.Check(t, d, name, attacker, lab.WrongName)
	host := l.StartMailHost(t, l.CA.Certificate(t, name))
	l.Zones.Set(t, name+". 60 A "+host.Addr)
	if d = postfix.Retry(t, d); d.Status != "sent" || len(host.Mails()) != 1 || host.MailInClear() {
		t.Errorf("to the right host: %s", d.Line)
	}
}

// deliver publishes what a row says, sends a mail and looks at its fate.
func deliver(t *testing.T, l *lab.Lab, postfix *lab.Postfix, r row, label string, want lab.Outcome) {
	t.Helper()
	domain := label + ".test"
	if r.signed {
		domain = label + ".example"
	}
	named := "mx." + domain
	text := strings.NewReplacer("{mx}", named, "{domain}", domain)
	d := lab.Domain{Name: domain, Host: r.host, TLSA: r.tlsa, Policy: r.answer, MX: named}
	switch {
	case r.forged:
		d.MX = "mx.other-" + domain
	case r.mx != "":
		d.MX = text.Replace(r.mx)
	}
	if r.policy != "" {
		d.ID, d.Policy.Text = "1", text.Replace(r.policy)
	}
	host := l.AddDomain(t, d)
	if r.records != "" {
		l.Zones.Set(t, text.Replace(r.records))
	}
	postfix.Check(t, postfix.Send(t, "user@"+domain), domain, host, want)
	if lines := postfix.Log.About("invalid attribute", "TLS policy table"); len(lines) > 0 {
		t.Errorf("Postfix does not understand a policy:\n%s", strings.Join(lines, "\n"))
	}
	for _, s := range host.Sessions() {
		// RFC 8461, section 7.1: SNI is the name of the MX host.
		if want == lab.Verified && s.SNI != d.MX {
			t.Errorf("SNI %q, want %q", s.SNI, d.MX)
		}
	}
}
