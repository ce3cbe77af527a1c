//go:build e2e

package delivery_test

import (
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// hop is a next-hop at port 587, under a policy that enforces.
type hop struct {
	name string
	// to is where the mail goes, host is what its mail host, mx.{name}.example,
	// is, and records have {key} for the data of its certificate.
	to      string
	host    lab.HostKind
	records string
	want    lab.Outcome
}

func hops() []hop {
	return []hop{
		{"smart", "[mx.smart.example]:587", lab.Unsigned,
			"_587._tcp.mx.smart.example. 60 TLSA {key}\n_25._tcp.mx.smart.example. 60 TLSA " + otherKey, lab.Verified},
		{"service", "[mx.service.example]:submission", lab.Unsigned,
			"_587._tcp.mx.service.example. 60 TLSA {key}\n_25._tcp.mx.service.example. 60 TLSA " + otherKey, lab.Verified},
		{"wrong", "[mx.wrong.example]:587", lab.Right,
			"_587._tcp.mx.wrong.example. 60 TLSA " + otherKey + "\n_25._tcp.mx.wrong.example. 60 TLSA {key}", lab.WrongKey},
		{"none", "[mx.none.example]:587", lab.Right,
			"_25._tcp.mx.none.example. 60 TLSA " + otherKey, lab.Verified},
		{"domain", "domain.example:587", lab.Unsigned,
			"domain.example. 60 MX 10 mx.domain.example.\n_587._tcp.mx.domain.example. 60 TLSA {key}", lab.Verified},
	}
}

// TestPorts: the TLSA records of the port count, and a smart host is its own
// MX host (RFC 7672, section 2.2.3).
func TestPorts(t *testing.T) {
	l := lab.New(t)
	l.StartDaemon(t, lab.DaemonOptions{})
	hosts := map[string]*lab.MailHost{}
	for _, h := range hops() {
		hosts[h.name] = h.publish(t, l)
	}
	for _, release := range []lab.Release{lab.System(), lab.Next()} {
		ways := map[string]lab.Way{}
		options := lab.PostfixOptions{Release: release}
		for _, h := range hops() {
			w := lab.Way{Name: h.name + release.String(), Level: "dane", Map: "policy", NextHop: h.to}
			ways[h.name] = w
			options.Ways = append(options.Ways, w)
		}
		relay := l.StartPostfix(t, options)
		for _, h := range hops() {
			t.Run(release.String()+"/"+h.name, func(t *testing.T) {
				t.Parallel()
				h.look(t, relay, ways[h.name], hosts[h.name])
			})
		}
	}
}

func (h hop) publish(t *testing.T, l *lab.Lab) *lab.MailHost {
	t.Helper()
	mx := "mx." + h.name + ".example"
	cert := l.Cert(t, h.host, mx)
	host := l.StartMailHostAt(t, cert, "587")
	name, _, _ := strings.Cut(h.to, ":")
	domain := strings.Trim(name, "[]")
	l.Policies.Set(t, domain, lab.Policy{Text: strings.ReplaceAll(enforce, "{mx}", mx)})
	l.Zones.Set(t, strings.ReplaceAll(h.records, "{key}", lab.TLSA(t, cert))+"\n"+
		mx+". 60 A "+host.Addr+"\n"+
		"_mta-sts."+domain+". 60 TXT \"v=STSv1; id=1\"\n"+
		"mta-sts."+domain+". 60 A "+lab.PolicyAddress)
	return host
}

func (h hop) look(t *testing.T, relay *lab.Postfix, way lab.Way, host *lab.MailHost) {
	d := relay.Send(t, way.Name+"@anything.invalid")
	lines := way.Lines(relay.Log, "mx."+h.name+".", " "+d.ID+":")
	took, _ := taken(host, way.Greeting())
	if d.Status != h.want.Status || took != (h.want.Status == "sent") {
		t.Errorf("status %s, want %s; taken: %v", d.Status, h.want.Status, took)
	}
	if how := connection(lines, host.Addr); took && how != h.want.TLS {
		t.Errorf("TLS %q, want %q", how, h.want.TLS)
	}
	if log := strings.Join(lines, "\n"); !strings.Contains(log, h.want.Says) {
		t.Errorf("it does not say %q:\n%s", h.want.Says, log)
	}
}
