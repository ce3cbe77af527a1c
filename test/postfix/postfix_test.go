//go:build e2e

// Package postfix_test shows what Postfix makes of every kind of answer that a
// policy map can give, with a scripted map. What tlspolicyd answers, and does
// not answer, rests on these facts.
package postfix_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// refused is what Postfix says of a policy that it does not understand.
const refused = "client TLS configuration problem"

// Outcomes of a delivery.
var (
	verified   = outcome{status: "sent", tls: "Verified"}
	trusted    = outcome{status: "sent", tls: "Trusted"}
	untrusted  = outcome{status: "sent", tls: "Untrusted"}
	inClear    = outcome{status: "sent"}
	invalid    = outcome{status: "deferred", says: refused}
	notOffered = outcome{status: "deferred", says: "TLS is required, but was not offered"}
	otherName  = outcome{status: "deferred", says: "hostname mismatch"}
	selfSigned = outcome{status: "deferred", says: "self-signed certificate"}
	expired    = outcome{status: "deferred", says: "certificate has expired"}
	otherTLSA  = outcome{status: "deferred", says: "no matching DANE TLSA records"}
	noTLSA     = outcome{status: "deferred", says: "no TLSA records found"}
	insecureMX = outcome{status: "deferred", says: "non DNSSEC destination"}
	skipped    = outcome{status: "deferred", says: "server unavailable or unable to receive mail"}
)

// outcome is what becomes of a mail.
type outcome struct {
	status string
	// tls is how Postfix calls the TLS connection; empty means that none
	// succeeded.
	tls string
	// says is part of what the log says of a mail that was deferred.
	says string
}

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
	want, system, next outcome
}

func (r row) wanted(release lab.Release) outcome {
	switch {
	case r.want != outcome{}:
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
				d := relay.Send(t, "user@"+domain)
				check(t, relay, host, d, domain, r.wanted(release))
			})
		}
	}
}

// check compares what became of a mail with what should have.
func check(t *testing.T, relay *lab.Postfix, host *lab.MailHost, d lab.Delivery, domain string, want outcome) {
	t.Helper()
	about := relay.Log.About(domain, d.ID)
	fail := func(format string, args ...any) {
		t.Errorf(format+"; the log of Postfix %s:\n%s", append(args, relay.Version, strings.Join(about, "\n"))...)
	}
	if d.Status != want.status {
		fail("status %s, want %s", d.Status, want.status)
	}
	if !slices.ContainsFunc(about, func(line string) bool { return strings.Contains(line, want.says) }) {
		fail("it does not say %q", want.says)
	}
	if got := connection(about); got != want.tls && want.status == "sent" {
		fail("TLS %q, want %q", got, want.tls)
	}
	mails := host.Mails()
	if delivered := len(mails) > 0; delivered != (want.status == "sent") {
		fail("the host has %d mails", len(mails))
	}
	for _, m := range mails {
		if m.TLS != (want.tls != "") {
			fail("a mail came with TLS: %v", m.TLS)
		}
	}
}

// connection returns how Postfix calls the TLS connection in its log.
func connection(lines []string) string {
	for _, line := range lines {
		before, _, ok := strings.Cut(line, " TLS connection established to ")
		if ok {
			return before[strings.LastIndexByte(before, ' ')+1:]
		}
	}
	return ""
}
