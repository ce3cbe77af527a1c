//go:build e2e

// Package postfix_test shows what Postfix makes of every kind of answer that a
// policy map can give, with a scripted map. What tlspolicyd answers, and does
// not answer, rests on these facts.
package postfix_test

import (
	"fmt"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// row is one answer about one domain.
type row struct {
	name string
	// reply has {mx} and {domain} in it.
	reply string
	host  lab.HostKind
	tlsa  lab.TLSAKind
	// signed puts the domain below example.
	signed bool
	// forged gives the mail host a name of its own, outside of the domain.
	forged bool
	// want is what both releases do, or system before 3.10, and next after.
	want, system, next lab.Outcome
}

func (r row) wanted(release lab.Release) lab.Outcome {
	switch {
	case r.want != lab.Outcome{}:
		return r.want
	case release == lab.Next():
		return r.next
	default:
		return r.system
	}
}

// TestReplies sends a mail through both releases for each answer.
func TestReplies(t *testing.T) {
	l := lab.New(t)
	script := l.StartScript(t)
	for _, release := range []lab.Release{lab.System(), lab.Next()} {
		relay := l.StartPostfix(t, lab.PostfixOptions{Release: release})
		for n, r := range rows() {
			t.Run(release.String()+"/"+r.name, func(t *testing.T) {
				t.Parallel()
				zone := "test"
				if r.signed {
					zone = "example"
				}
				domain := fmt.Sprintf("d%d-%s.%s", n, release, zone)
				mx := "mx." + domain
				if r.forged {
					mx = "mx.other-" + domain
				}
				host := l.AddDomain(t, lab.Domain{Name: domain, MX: mx, Host: r.host, TLSA: r.tlsa})
				reply := strings.NewReplacer("{mx}", mx, "{domain}", domain).Replace(r.reply)
				script.Answer(domain, reply)
				relay.Check(t, relay.Send(t, "user@"+domain), domain, host, r.wanted(release))
			})
		}
	}
}
