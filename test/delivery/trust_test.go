//go:build e2e

package delivery_test

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// adminAddr is where the daemon serves its metrics.
const adminAddr = "127.0.0.1:8462"

// TestNoServerValidates: without a resolver that validates, DANE is off, which
// the log, a metric and check say; policies are enforced all the same.
func TestNoServerValidates(t *testing.T) {
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	tap.SetFault(func(lab.Question) lab.Fault { return lab.NoAD })
	for domain, policy := range map[string]string{"both.example": enforce, "fits.example": ""} {
		d := lab.Domain{Name: domain, TLSA: lab.GoodTLSA}
		if policy != "" {
			d.ID, d.Policy.Text = "1", strings.ReplaceAll(policy, "{mx}", "mx."+domain)
		}
		l.AddDomain(t, d)
	}
	options := lab.DaemonOptions{DNS: tapAddr, HTTP: adminAddr}
	daemon := l.StartDaemon(t, options)
	for _, c := range []struct{ mapName, domain, want string }{
		{"policy", "both.example", secureFor("both.example")},
		{"policy-dane", "both.example", secureFor("both.example")},
		{"policy-dane", "fits.example", "NOTFOUND "},
	} {
		if got := daemon.Ask(t, c.mapName, c.domain); got != c.want {
			t.Errorf("%s says of %s: %q, want %q", c.mapName, c.domain, got, c.want)
		}
	}
	wantOff(t, daemon, true)
	daemon.Stop(t)

	tap.SetFault(func(lab.Question) lab.Fault { return lab.Pass })
	daemon = l.StartDaemon(t, options)
	if got := daemon.Ask(t, "policy", "both.example"); got != "OK dane-only" {
		t.Errorf("with a resolver that validates: %q", got)
	}
	wantOff(t, daemon, false)
}

// wantOff looks for what is said of DANE being off, in all three places.
func wantOff(t *testing.T, daemon *lab.Daemon, off bool) {
	t.Helper()
	metric := "\ntlspolicyd_dns_validating 1\n"
	if off {
		metric = "\ntlspolicyd_dns_validating 0\n"
	}
	if got := daemon.Metrics(t); !strings.Contains(got, metric) {
		t.Errorf("the metrics lack %q", metric)
	}
	var errors []string
	for _, line := range daemon.Log.About("DANE is off") {
		if strings.Contains(line, `"level":"error"`) {
			errors = append(errors, line)
		}
	}
	if (len(errors) == 1) != off {
		t.Errorf("the log says %d times that DANE is off: %q", len(errors), errors)
	}
	text, _ := daemon.Run(t, "check", "both.example")
	if strings.Contains(text, "DANE is off") != off {
		t.Errorf("check says:\n%s", text)
	}
}

// TestDANEFactsLive: what is known of DANE lives as long as its TTL, is renewed
// while it is used, and is not known, never absent, when it cannot be renewed.
func TestDANEFactsLive(t *testing.T) {
	const domain = "short.example"
	const dane = "OK dane-only"
	l := lab.New(t)
	tap := l.StartTap(t, tapAddr)
	daemon := l.StartDaemon(t, lab.DaemonOptions{DNS: tapAddr, AnswerWithin: time.Second})
	host := l.StartMailHost(t, l.Cert(t, lab.Right, "mx."+domain))
	l.Policies.Set(t, domain, lab.Policy{Text: strings.ReplaceAll(enforce, "{mx}", "mx."+domain)})
	l.Zones.Set(t, strings.NewReplacer("{d}", domain, "{1}", host.Addr).Replace(`
		_mta-sts.{d}. 60 TXT "v=STSv1; id=1"
		mta-sts.{d}. 60 A `+lab.PolicyAddress+`
		{d}. 2 MX 10 mx.{d}.
		mx.{d}. 2 A {1}
		_25._tcp.mx.{d}. 2 TLSA `+otherKey))
	asked := func() int { return len(tap.Asked("_25._tcp.mx." + domain)) }

	for asked() < 3 {
		if got := daemon.Ask(t, "policy", domain); got != dane {
			t.Fatalf("while it is renewed: %q", got)
		}
		time.Sleep(20 * time.Millisecond)
	}

	tap.SetFault(func(lab.Question) lab.Fault { return lab.Drop })
	until(t, daemon, domain, dane, "TEMP the DANE lookup did not end in time")
	if got := daemon.Ask(t, "policy-dane", domain); !strings.HasPrefix(got, "TEMP ") {
		t.Errorf("on a -dane map: %q", got)
	}
	tap.SetFault(func(lab.Question) lab.Fault { return lab.Pass })
	until(t, daemon, domain, "TEMP ", dane)

	l.Zones.Remove(t, "_25._tcp.mx."+domain+".", "TLSA")
	until(t, daemon, domain, dane, secureFor(domain))
}

// until asks until the answer begins with next; until then it begins with now.
func until(t *testing.T, daemon *lab.Daemon, domain, now, next string) {
	t.Helper()
	end := time.Now().Add(30 * time.Second)
	for {
		got := daemon.Ask(t, "policy", domain)
		if strings.HasPrefix(got, next) {
			return
		}
		if !strings.HasPrefix(got, now) || time.Now().After(end) {
			t.Fatalf("the answer is %q, want %q and then %q", got, now, next)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
