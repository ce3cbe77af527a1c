//go:build e2e

package lab

import (
	"slices"
	"strings"
	"testing"
)

// Refusal is what Postfix says of a policy that it does not understand, and of
// one that it cannot look up.
const Refusal = "client TLS configuration problem"

// Outcome is what becomes of a mail.
type Outcome struct {
	// Status is sent, deferred or bounced.
	Status string
	// TLS is how Postfix calls the connection over which it was sent; empty
	// means that it went in clear.
	TLS string
	// Says is part of what the log says of a mail that was not sent.
	Says string
}

// The outcomes that tests want.
var (
	Verified  = Outcome{Status: "sent", TLS: "Verified"}
	Trusted   = Outcome{Status: "sent", TLS: "Trusted"}
	Untrusted = Outcome{Status: "sent", TLS: "Untrusted"}
	InClear   = Outcome{Status: "sent"}

	Refused         = Outcome{Status: "deferred", Says: Refusal}
	NotOffered      = Outcome{Status: "deferred", Says: "TLS is required, but was not offered"}
	WrongName       = Outcome{Status: "deferred", Says: "hostname mismatch"}
	WrongAuthority  = Outcome{Status: "deferred", Says: "self-signed certificate"}
	TooOld          = Outcome{Status: "deferred", Says: "certificate has expired"}
	WrongKey        = Outcome{Status: "deferred", Says: "no matching DANE TLSA records"}
	NoKey           = Outcome{Status: "deferred", Says: "no TLSA records found"}
	InsecureRecords = Outcome{Status: "deferred", Says: "non DNSSEC destination"}
	NoTLSAAnswer    = Outcome{Status: "deferred", Says: "TLSA lookup error"}
	NoAnswer        = Outcome{Status: "deferred", Says: "try again"}
	NoHostAllowed   = Outcome{Status: "deferred", Says: "does not match STS MX pattern"}

	NoHost = Outcome{Status: "bounced", Says: "Host or domain name not found"}
	NoMail = Outcome{Status: "bounced", Says: "does not accept mail"}
)

// Check compares what became of a mail to domain with what should have: how
// Postfix calls it, and what arrived at the host that took the connection.
func (p *Postfix) Check(t testing.TB, d Delivery, domain string, host *MailHost, want Outcome) {
	t.Helper()
	about := p.Log.About(domain, d.ID)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format+"; the log of Postfix %s:\n%s", append(args, p.Version, strings.Join(about, "\n"))...)
	}
	if d.Status != want.Status {
		fail("status %s, want %s", d.Status, want.Status)
	}
	if !slices.ContainsFunc(about, func(line string) bool { return strings.Contains(line, want.Says) }) {
		fail("it does not say %q", want.Says)
	}
	if got := connection(about); got != want.TLS && want.Status == "sent" {
		fail("TLS %q, want %q", got, want.TLS)
	}
	if mails := host.Mails(); (len(mails) == 1) != (want.Status == "sent") {
		fail("the host has %d mails", len(mails))
	}
	if inClear := host.MailInClear(); inClear != (want == InClear) {
		fail("the host was told about the mail in clear: %v", inClear)
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
