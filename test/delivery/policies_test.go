//go:build e2e

package delivery_test

import (
	"net/http"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// enforceRows: mail reaches a host that the policy names and that proves its
// name, and nobody else.
func enforceRows() []row {
	return []row{
		{name: "right", policy: enforce, want: lab.Verified},
		{name: "wildcard", policy: wildcard, want: lab.Verified},
		{name: "upper case", policy: strings.Replace(enforce, "{mx}", "MX.{domain}", 1), want: lab.Verified},
		{name: "CRLF", policy: strings.ReplaceAll(enforce, "\n", "\r\n"), want: lab.Verified},
		{name: "another record beside it", policy: enforce, want: lab.Verified, records: `
			_mta-sts.{domain}. 60 TXT "unrelated"
			_mta-sts.{domain}. 60 TXT "v=STSv1; id=1;"`},
		{name: "record and host by CNAME", policy: enforce, want: lab.Verified, records: `
			_mta-sts.{domain}. 60 CNAME record.{domain}.
			record.{domain}. 60 TXT "v=STSv1; id=1;"
			mta-sts.{domain}. 60 CNAME host.{domain}.
			host.{domain}. 60 A ` + lab.PolicyAddress},
		{name: "max_age 0", policy: strings.Replace(enforce, "86400", "0", 1), host: lab.Stripped, want: lab.NotOffered},

		{name: "STARTTLS stripped", policy: enforce, host: lab.Stripped, want: lab.NotOffered},
		{name: "certificate of another", policy: enforce, host: lab.OtherName, want: lab.WrongName},
		{name: "self-signed", policy: enforce, host: lab.Unsigned, want: lab.WrongAuthority},
		{name: "expired", policy: enforce, host: lab.Expired, want: lab.TooOld},
		{name: "MX forged", policy: enforce, forged: true, want: lab.WrongName, next: lab.NoHostAllowed},
		{name: "MX forged, STARTTLS stripped", policy: enforce, forged: true, host: lab.Stripped, want: lab.NotOffered, next: lab.NoHostAllowed},

		// RFC 8461, section 4.1: the name of the MX host counts, and a wildcard
		// stands for one label. Postfix before 3.10 looks at the certificate
		// only, with the pattern as a suffix.
		{name: "wildcard, certificate of a host beside it", policy: wildcard, host: lab.Sibling, want: lab.Verified, next: lab.WrongName},
		{name: "wildcard, certificate for all hosts beside it", policy: wildcard, host: lab.Wildcard, want: lab.Verified},
		{name: "wildcard, MX host two labels below", policy: wildcard, mx: "a.b.{domain}", want: lab.Verified, next: lab.NoHostAllowed},
		{name: "wildcard, MX host is the parent", policy: wildcard, mx: "{domain}", want: lab.WrongName, next: lab.NoHostAllowed},
		{name: "host in the policy, certificate for all hosts beside it", policy: enforce, host: lab.Wildcard, want: lab.Verified},

		{name: "DANE, self-signed", policy: enforce, signed: true, tlsa: lab.GoodTLSA, host: lab.Unsigned, want: lab.Verified},
		{name: "DANE, another key", policy: enforce, signed: true, tlsa: lab.WrongTLSA, want: lab.WrongKey},
		{name: "signed, no DANE", policy: enforce, signed: true, want: lab.Verified},
		{name: "signed, no DANE, STARTTLS stripped", policy: enforce, signed: true, host: lab.Stripped, want: lab.NotOffered},
	}
}

// freeRows: without a policy that enforces, Postfix delivers as it would without
// the daemon, in clear if need be.
func freeRows() []row {
	html := lab.Policy{Type: "text/html"}
	return []row{
		{name: "no policy", host: lab.Stripped, want: lab.InClear},
		{name: "no policy, TLS", want: lab.Trusted},
		{name: "no policy, self-signed", host: lab.Unsigned, want: lab.Untrusted},
		{name: "testing", policy: trial, host: lab.Stripped, want: lab.InClear},
		{name: "testing, certificate of another", policy: trial, host: lab.OtherName, want: lab.Trusted},
		{name: "testing, MX not in the policy", policy: trial, forged: true, want: lab.Trusted},
		{name: "none", policy: none, host: lab.Stripped, want: lab.InClear},

		{name: "policy without mode", policy: "version: STSv1\nmx: {mx}\nmax_age: 86400\n", host: lab.Stripped, want: lab.InClear},
		{name: "policy without mx", policy: "version: STSv1\nmode: enforce\nmax_age: 86400\n", host: lab.Stripped, want: lab.InClear},
		{name: "policy that is HTML", policy: "<html>", answer: html, host: lab.Stripped, want: lab.InClear},
		{name: "wrong media type", policy: enforce, answer: html, host: lab.Stripped, want: lab.InClear},
		{name: "404", policy: enforce, answer: lab.Policy{Status: http.StatusNotFound}, host: lab.Stripped, want: lab.InClear},
		{name: "redirect", policy: enforce, host: lab.Stripped, want: lab.InClear, answer: lab.Policy{
			Status: http.StatusFound, Header: http.Header{"Location": {lab.Elsewhere}}}},
		{name: "policy too large", policy: enforce + strings.Repeat("x: y\n", 14_000), host: lab.Stripped, want: lab.InClear},
		{name: "policy host hangs", policy: enforce, answer: lab.Policy{Hang: true}, host: lab.Stripped, want: lab.InClear},
		{name: "policy host refuses", policy: enforce, records: "mta-sts.{domain}. 60 A " + lab.DeadAddress, host: lab.Stripped, want: lab.InClear},
		{name: "policy host at a private address", policy: enforce, records: "mta-sts.{domain}. 60 A " + lab.ForbiddenAddress, host: lab.Stripped, want: lab.InClear},

		{name: "two records", policy: enforce, host: lab.Stripped, want: lab.InClear, records: `
			_mta-sts.{domain}. 60 TXT "v=STSv1; id=1"
			_mta-sts.{domain}. 60 TXT "v=STSv1; id=2"`},
		{name: "record without id", policy: enforce, host: lab.Stripped, want: lab.InClear, records: `_mta-sts.{domain}. 60 TXT "v=STSv1;"`},
		{name: "record of another kind", policy: enforce, host: lab.Stripped, want: lab.InClear, records: `_mta-sts.{domain}. 60 TXT "v=spf1 -all"`},
	}
}

// TestPolicyHostCertificate: a policy counts only if its host proves its name.
func TestPolicyHostCertificate(t *testing.T) {
	l := lab.New(t)
	daemon := l.StartDaemon(t, lab.DaemonOptions{})
	for _, c := range []struct {
		name string
		cert func(t *testing.T, host string) lab.Policy
		want string
	}{
		{"right", func(t *testing.T, host string) lab.Policy {
			return lab.Policy{Cert: l.CA.Certificate(t, host)}
		}, "OK secure match=mx.right.test servername=hostname"},
		{"wildcard", func(t *testing.T, host string) lab.Policy {
			_, domain, _ := strings.Cut(host, ".")
			return lab.Policy{Cert: l.CA.Certificate(t, "*."+domain)}
		}, "OK secure match=mx.wildcard.test servername=hostname"},
		{"other", func(t *testing.T, _ string) lab.Policy {
			return lab.Policy{Cert: l.CA.Certificate(t, "mta-sts.attacker.test")}
		}, "NOTFOUND "},
		{"domain", func(t *testing.T, host string) lab.Policy {
			_, domain, _ := strings.Cut(host, ".")
			return lab.Policy{Cert: l.CA.Certificate(t, domain)}
		}, "NOTFOUND "},
		{"self-signed", func(t *testing.T, host string) lab.Policy {
			return lab.Policy{Cert: lab.SelfSigned(t, host)}
		}, "NOTFOUND "},
		{"expired", func(t *testing.T, host string) lab.Policy {
			return lab.Policy{Cert: l.CA.Expired(t, host)}
		}, "NOTFOUND "},
		{"common-name", func(t *testing.T, host string) lab.Policy {
			return lab.Policy{Cert: l.CA.CommonName(t, host)}
		}, "NOTFOUND "},
	} {
		t.Run(c.name, func(t *testing.T) {
			domain := c.name + ".test"
			p := c.cert(t, "mta-sts."+domain)
			p.Text = strings.ReplaceAll(enforce, "{mx}", "mx."+domain)
			l.AddDomain(t, lab.Domain{Name: domain, ID: "1", Policy: p})
			if got := daemon.Ask(t, "policy", domain); got != c.want {
				t.Errorf("the reply is %q, want %q", got, c.want)
			}
		})
	}
}
