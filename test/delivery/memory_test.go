//go:build e2e

package delivery_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"tlspolicyd/test/lab"
)

// tapAddr is where the daemon asks when its questions are counted or fail.
const tapAddr = "127.0.0.1:5353"

// secureFor is the reply about a domain whose policy is enforce.
func secureFor(domain string) string {
	return "OK secure match=mx." + domain + " servername=hostname"
}

// publish adds a domain with a policy of its own host.
func publish(t *testing.T, l *lab.Lab, domain, policy string) {
	t.Helper()
	text := strings.ReplaceAll(policy, "{mx}", "mx."+domain)
	l.AddDomain(t, lab.Domain{Name: domain, ID: "1", Policy: lab.Policy{Text: text}})
}

// TestQuestions: what a domain costs the resolver, however often and in whatever
// spelling it is asked for. The MX records are asked for while the policy is
// fetched, before it is known whether they matter.
func TestQuestions(t *testing.T) {
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	daemon := l.StartDaemon(t, lab.DaemonOptions{DNS: tapAddr})
	txt, a, aaaa, mx, tlsa := dnsmessage.TypeTXT, dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeMX, dnsmessage.Type(52)
	for _, c := range []struct {
		domain, policy, mapName string
		want                    map[dnsmessage.Type]int
	}{
		{"absent.test", "", "policy", map[dnsmessage.Type]int{txt: 1}},
		{"absent.example", "", "policy-tlsrpt", map[dnsmessage.Type]int{txt: 1}},
		{"gone.example", "", "policy-dane", map[dnsmessage.Type]int{txt: 1, mx: 1}},
		{"trial.test", trial, "policy", map[dnsmessage.Type]int{txt: 1, a: 1, aaaa: 1, mx: 1}},
		{"none.test", none, "policy", map[dnsmessage.Type]int{txt: 1, a: 1, aaaa: 1, mx: 1}},
		{"enforce.test", enforce, "policy", map[dnsmessage.Type]int{txt: 1, a: 1, aaaa: 1, mx: 1}},
		{"plain.test", enforce, "postfix", map[dnsmessage.Type]int{txt: 1, a: 1, aaaa: 1}},
		{"signed.example", enforce, "policy", map[dnsmessage.Type]int{txt: 1, a: 2, aaaa: 2, mx: 1, tlsa: 1}},
	} {
		t.Run(c.domain, func(t *testing.T) {
			if c.policy != "" {
				publish(t, l, c.domain, c.policy)
			}
			for range 3 {
				daemon.Ask(t, c.mapName, c.domain)
				daemon.Ask(t, c.mapName, strings.ToUpper(c.domain)+".")
				daemon.Ask(t, c.mapName, "."+c.domain)
			}
			got := map[dnsmessage.Type]int{}
			for _, q := range tap.Asked(c.domain) {
				got[q.Type]++
			}
			for qtype := range 256 {
				if q := dnsmessage.Type(qtype); got[q] != c.want[q] {
					t.Errorf("%d questions for %v, want %d", got[q], q, c.want[q])
				}
			}
		})
	}
}

// TestFailures: neither a record and a policy host that are gone nor a DNS that
// is silent lowers what was learned.
func TestFailures(t *testing.T) {
	const domain = "kept.test"
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	daemon := l.StartDaemon(t, lab.DaemonOptions{DNS: tapAddr, AnswerWithin: 2 * time.Second, Recheck: time.Second})
	publish(t, l, domain, enforce)
	l.Zones.Set(t, "_mta-sts."+domain+`. 1 TXT "v=STSv1; id=1"
		`+domain+". 1 MX 10 mx."+domain+".")
	if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
		t.Fatalf("the reply is %q", got)
	}
	l.Policies.Remove(domain)
	l.Zones.Remove(t, "_mta-sts."+domain+".", "TXT")
	for before := len(tap.Asked("_mta-sts." + domain)); len(tap.Asked("_mta-sts."+domain)) == before; {
		if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
			t.Fatalf("with record and host gone: %q", got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
		t.Errorf("after a look at what is gone: %q", got)
	}
	tap.SetFault(func(lab.Question) lab.Fault { return lab.Drop })
	for got := secureFor(domain); !strings.HasPrefix(got, "TEMP "); got = daemon.Ask(t, "policy", domain) {
		// DANE is known for a second more, and then cannot be ruled out.
		if got != secureFor(domain) {
			t.Fatalf("with no DNS: %q", got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if got := daemon.Ask(t, "policy", "unknown.test"); got != "NOTFOUND " {
		t.Errorf("a domain never heard of, with no DNS: %q", got)
	}
	if code := daemon.Stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestChanged: a new id is seen by the first question after the recheck, which
// gets the old policy; the next gets the new one.
func TestChanged(t *testing.T) {
	const domain = "changed.test"
	l := lab.New(t)
	daemon := l.StartDaemon(t, lab.DaemonOptions{Recheck: time.Second})
	publish(t, l, domain, enforce)
	l.Zones.Set(t, "_mta-sts."+domain+`. 1 TXT "v=STSv1; id=1"`)
	if got := daemon.Ask(t, "policy", domain); got != secureFor(domain) {
		t.Fatalf("the reply is %q", got)
	}
	l.Policies.Set(t, domain, lab.Policy{Text: strings.ReplaceAll(enforce, "{mx}", "mx2."+domain)})
	l.Zones.Set(t, "_mta-sts."+domain+`. 1 TXT "v=STSv1; id=2"`)
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		got := daemon.Ask(t, "policy", domain)
		if got == "OK secure match=mx2."+domain+" servername=hostname" {
			return
		}
		if got != secureFor(domain) {
			t.Fatalf("between the policies: %q", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the new policy is not seen")
}
