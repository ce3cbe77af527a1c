//go:build e2e

package delivery_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tlspolicyd/test/lab"
)

// scene is a domain as DNSSEC and its MX hosts make it. It is played twice:
// under a policy that enforces, and without one.
type scene struct {
	name string
	// zone is that of the domain; empty means example, which is signed.
	zone string
	// records are those of the domain and its hosts, with {d} for the domain
	// and {l} for its first label, {1} and {2} for the addresses of two mail
	// hosts, {key1} and {key2} for the TLSA data of their certificates.
	records string
	// first and second are what these hosts are; they show certificates for
	// named, or mx.{d}, and second.{d}.
	first, second lab.HostKind
	named         string
	// mxFails lets the daemon's lookup of the MX records fail, but not that of
	// Postfix.
	mxFails bool
	// enforce and free are what the daemon answers on the -dane maps; free
	// without a policy, or where the daemon cannot learn of it.
	enforce, free string
	// dnssec and without are what becomes of mail from a relay that has set
	// smtp_dns_support_level to dnssec, and from one that has not. The
	// latter is not tried if it is empty.
	dnssec, without fates
}

// fates are what becomes of the mail to a scene.
type fates struct {
	// enforce: under the policy, whatever the map.
	enforce fate
	// own: without a policy, on the maps that leave such a domain to Postfix's
	// own level, which is dane where there is DNSSEC, and may where not.
	own fate
	// dane: without a policy, on the -dane maps; Postfix's own level is may.
	dane fate
}

// fate is what becomes of one mail.
type fate struct {
	lab.Outcome
	// at is the host that takes it, 1 or 2.
	at int
	// old is what a Postfix before 3.10 does, if that is something else.
	old *fate
}

func first(o lab.Outcome) fate  { return fate{Outcome: o, at: 1} }
func second(o lab.Outcome) fate { return fate{Outcome: o, at: 2} }
func never(o lab.Outcome) fate  { return fate{Outcome: o} }

// all is one fate for all.
func all(f fate) fates { return fates{f, f, f} }

// daneWay is a way out of a relay, and the fates that it meets.
type daneWay struct {
	lab.Way
	// daneMap says that it asks a -dane map.
	daneMap bool
}

// daneWays are the ways out of a relay of a release: with DNSSEC and without,
// with a map that leaves DANE to Postfix and with one that answers for it.
func daneWays(release lab.Release) []daneWay {
	sts, dane := "policy", "QUERY"
	if release == lab.Next() {
		sts, dane = "policy-tlsrpt", "QUERYwithTLSRPT"
	}
	of := release.String()
	return []daneWay{
		{lab.Way{Name: "own" + of, Level: "dane", Map: sts}, false},
		{lab.Way{Name: "dane" + of, Level: "may", Map: dane}, true},
		{lab.Way{Name: "ownwithout" + of, Level: "may", Map: sts, WithoutDNSSEC: true}, false},
		{lab.Way{Name: "danewithout" + of, Level: "may", Map: dane, WithoutDNSSEC: true}, true},
	}
}

func (w daneWay) fates(s *scene) fates {
	if w.WithoutDNSSEC {
		return s.without
	}
	return s.dnssec
}

func (f fates) of(w daneWay, enforce bool) fate {
	switch {
	case enforce:
		return f.enforce
	case w.daneMap:
		return f.dane
	default:
		return f.own
	}
}

// played is a scene with its names and hosts, under a policy or not.
type played struct {
	scene
	enforced bool
	label    string
	domain   string
	hosts    [2]*lab.MailHost
}

// posted is a mail on its way.
type posted struct {
	id   string
	way  daneWay
	want fate
}

// TestDANE plays every scene for every way out of a relay of both releases.
func TestDANE(t *testing.T) {
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	daemon := l.StartDaemon(t, lab.DaemonOptions{DNS: tapAddr})
	stage := play(t, l, slices.Concat(decisionScenes(), hostScenes(), forgedScenes()))
	tap.SetFault(func(q lab.Question) lab.Fault {
		for _, p := range stage {
			if p.mxFails && q.Name == p.domain && q.Type == dnsmessage.TypeMX {
				return lab.ServFail
			}
		}
		return lab.Pass
	})
	t.Run("all", func(t *testing.T) {
		for _, p := range stage {
			t.Run("daemon/"+p.title(), func(t *testing.T) {
				t.Parallel()
				p.ask(t, daemon)
			})
		}
		for _, release := range []lab.Release{lab.System(), lab.Next()} {
			mail(t, l, stage, release)
		}
	})
	// RFC 7672, section 2.2.2: behind an insecure address, TLSA is not asked
	// for; it is where servers drop the question.
	for _, q := range append(tap.Asked("mute"), tap.Asked("test")...) {
		if q.Type == lab.TypeTLSA {
			t.Errorf("the daemon asked for TLSA of %s, in an unsigned zone", q.Name)
		}
	}
}

// play publishes the scenes, all at once, and starts their hosts.
func play(t *testing.T, l *lab.Lab, scenes []scene) []*played {
	t.Helper()
	var stage []*played
	var records strings.Builder
	for n, s := range scenes {
		for _, enforced := range []bool{true, false} {
			label := fmt.Sprintf("e%02d", n)
			if !enforced {
				label = fmt.Sprintf("f%02d", n)
			}
			if s.zone == "" {
				s.zone = "example"
			}
			p := &played{scene: s, enforced: enforced, label: label, domain: label + "." + s.zone}
			records.WriteString(p.publish(t, l))
			stage = append(stage, p)
		}
	}
	l.Zones.Set(t, records.String())
	return stage
}

// publish starts the hosts of a scene and returns its records.
func (p *played) publish(t *testing.T, l *lab.Lab) string {
	t.Helper()
	if p.named == "" {
		p.named = "mx.{d}"
	}
	names := strings.NewReplacer("{d}", p.domain, "{l}", p.label)
	certs := [2]string{names.Replace(p.named), "second." + p.domain}
	data := []string{"{d}", p.domain, "{l}", p.label}
	for i, kind := range []lab.HostKind{p.first, p.second} {
		cert := l.Cert(t, kind, certs[i])
		p.hosts[i] = l.StartMailHost(t, cert)
		data = append(data, fmt.Sprintf("{%d}", i+1), p.hosts[i].Addr)
		if cert != nil {
			data = append(data, fmt.Sprintf("{key%d}", i+1), lab.TLSA(t, cert))
		}
	}
	records := strings.NewReplacer(data...).Replace(p.records) + "\n"
	if !p.enforced {
		return records
	}
	text := "version: STSv1\nmode: enforce\nmax_age: 86400\nmx: " + p.domain + "\n"
	for _, zone := range []string{"example", "test", "bogus", "silent", "mute"} {
		text += "mx: *." + p.label + "." + zone + "\n"
	}
	l.Policies.Set(t, p.domain, lab.Policy{Text: text})
	return records + fmt.Sprintf("_mta-sts.%s. 60 TXT \"v=STSv1; id=1\"\nmta-sts.%[1]s. 60 A %s\n", p.domain, lab.PolicyAddress)
}

func (p *played) title() string {
	if p.enforced {
		return p.name + "/enforced"
	}
	return p.name + "/free"
}

// ask looks at the answers of the maps.
func (p *played) ask(t *testing.T, daemon *lab.Daemon) {
	sts, dane := p.enforce, p.enforce
	if !p.enforced || p.enforce == "" {
		sts, dane = answerNone, p.free
	}
	for mapName, want := range map[string]string{"policy": sts, "policy-dane": dane} {
		got := daemon.Ask(t, mapName, p.domain)
		if got != want && !strings.HasPrefix(got, want+" ") {
			t.Errorf("%s answers %q, want %q", mapName, got, want)
		}
	}
}

// mail sends a mail to every scene on every way out of one relay, all at once,
// and looks at what becomes of them.
func mail(t *testing.T, l *lab.Lab, stage []*played, release lab.Release) {
	t.Helper()
	ways := daneWays(release)
	options := lab.PostfixOptions{Release: release}
	for _, w := range ways {
		options.Ways = append(options.Ways, w.Way)
	}
	relay := l.StartPostfix(t, options)
	sent := map[*played][]posted{}
	for _, p := range stage {
		for _, w := range ways {
			f := w.fates(&p.scene)
			if f == (fates{}) {
				continue
			}
			id := relay.Submit(t, w.Name+"@"+p.domain)
			sent[p] = append(sent[p], posted{id, w, f.of(w, p.enforced)})
		}
	}
	for _, p := range stage {
		for _, m := range sent[p] {
			t.Run(p.title()+"/"+m.way.Name, func(t *testing.T) {
				t.Parallel()
				p.look(t, relay, release, m)
			})
		}
	}
}

// look compares the fate of a mail with what was wanted, in the log of Postfix
// and with the eyes of the hosts.
func (p *played) look(t *testing.T, relay *lab.Postfix, release lab.Release, m posted) {
	want := m.want
	if want.old != nil && release == lab.System() {
		want = *want.old
	}
	d := relay.Outcome(t, m.id)
	lines := m.way.Lines(relay.Log, p.label+".", " "+m.id+":", "["+p.hosts[0].Addr+"]", "["+p.hosts[1].Addr+"]")
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format+"; the log of Postfix %s:\n%s", append(args, relay.Version, strings.Join(lines, "\n"))...)
	}
	if d.Status != want.Status {
		fail("status %s, want %s", d.Status, want.Status)
	}
	for _, says := range append(p.warnings(m.way, d), want.Says) {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, says) }) {
			fail("it does not say %q", says)
		}
	}
	for i, host := range p.hosts {
		took, inClear := taken(host, m.way.Greeting())
		if took != (want.at == i+1) {
			fail("host %d has the mail: %v", i+1, took)
		}
		if how := connection(lines, host.Addr); took && how != want.TLS {
			fail("TLS %q, want %q", how, want.TLS)
		}
		if inClear != (took && want.TLS == "") {
			fail("host %d was told about the mail in clear: %v", i+1, inClear)
		}
	}
}

// warnings are what Postfix says of an answer that it cannot follow, or that it
// has no level for, if it has come so far as to ask.
func (p *played) warnings(w daneWay, d lab.Delivery) []string {
	answer := p.enforce
	if !p.enforced {
		answer = p.free
	}
	asks := d.Status == "sent" || strings.Contains(d.Line, lab.Refusal)
	switch {
	case !asks || !p.enforced && !w.daneMap:
		return nil
	case answer == answerTemp:
		return []string{"policy table lookup error"}
	case w.WithoutDNSSEC && answer == answerDANEOnly:
		return []string{"dane-only configured with dnssec lookups disabled"}
	case w.WithoutDNSSEC && answer == answerDANE:
		return []string{"dane configured with dnssec lookups disabled"}
	default:
		return nil
	}
}

// taken says what a host saw of a client: a mail, or anything of one in clear.
func taken(host *lab.MailHost, client string) (took, inClear bool) {
	for _, s := range host.Sessions() {
		if s.Client != client {
			continue
		}
		took = took || len(s.Mails) > 0
		inClear = inClear || slices.ContainsFunc(s.InClear, func(verb string) bool {
			return verb == "MAIL" || verb == "RCPT" || verb == "DATA"
		})
	}
	return took, inClear
}

// connection returns how Postfix calls its TLS connection to an address.
func connection(lines []string, address string) string {
	for _, line := range lines {
		before, to, ok := strings.Cut(line, " TLS connection established to ")
		if ok && strings.Contains(to, "["+address+"]") {
			return before[strings.LastIndexByte(before, ' ')+1:]
		}
	}
	return ""
}
