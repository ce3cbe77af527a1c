//go:build e2e

package postfix_test

import (
	"strings"

	"tlspolicyd/test/lab"
)

// secure is an answer of the map "policy", and reports what the maps for
// reports add to it.
const (
	secure  = "OK secure match={mx} servername=hostname"
	reports = " policy_type=sts policy_domain={domain} mx_host_pattern={mx}" +
		" { policy_string = version: STSv1 } { policy_string = mode: enforce }"
)

func rows() []row {
	return append(append(plainRows(), secureRows()...), append(brokenRows(), reportRows()...)...)
}

// plainRows: the answers that leave the certificate alone.
func plainRows() []row {
	return []row{
		{name: "not found", reply: "NOTFOUND ", want: lab.Trusted},
		{name: "not found, certificate wrong", reply: "NOTFOUND ", host: lab.Unsigned, want: lab.Untrusted},
		{name: "not found, no STARTTLS", reply: "NOTFOUND ", host: lab.Stripped, want: lab.InClear},
		{name: "temporary error", reply: "TEMP the DNS does not answer", want: lab.Refused},
		{name: "permanent error", reply: "PERM no such map", want: lab.Refused},
		{name: "dane-only with TLSA", reply: "OK dane-only", signed: true, tlsa: lab.GoodTLSA, want: lab.Verified},
		{name: "dane-only with another TLSA", reply: "OK dane-only", signed: true, tlsa: lab.WrongTLSA, want: lab.WrongKey},
		{name: "dane-only without TLSA", reply: "OK dane-only", signed: true, want: lab.NoKey},
		{name: "dane-only, insecure MX", reply: "OK dane-only", want: lab.InsecureRecords},
		{name: "dane with TLSA", reply: "OK dane", signed: true, tlsa: lab.GoodTLSA, want: lab.Verified},
		{name: "dane without TLSA", reply: "OK dane", signed: true, host: lab.Stripped, want: lab.InClear},
	}
}

// secureRows: what secure lets pass, and what not.
func secureRows() []row {
	return []row{
		{name: "secure", reply: secure, want: lab.Verified},
		{name: "secure, several hosts", reply: "OK secure match=a.test:{mx}:.b.test servername=hostname", want: lab.Verified},
		{name: "secure, parent domain", reply: "OK secure match=.{domain} servername=hostname", want: lab.Verified},
		{name: "secure, other host", reply: "OK secure match=mx.other.test servername=hostname", want: lab.WrongName},
		{name: "secure, no STARTTLS", reply: secure, host: lab.Stripped, want: lab.NotOffered},
		{name: "secure, certificate of another", reply: secure, host: lab.OtherName, want: lab.WrongName},
		{name: "secure, self-signed", reply: secure, host: lab.Unsigned, want: lab.WrongAuthority},
		{name: "secure, expired", reply: secure, host: lab.Expired, want: lab.TooOld},
		// Before 3.10 the name of the MX host is nobody's business but the
		// certificate's.
		{name: "secure, MX forged", reply: "OK secure match=mx.{domain} servername=hostname", forged: true, want: lab.WrongName},
		// Why no policy may bring this word into match.
		{name: "secure, MX forged, match=hostname", reply: "OK secure match=hostname servername=hostname", forged: true, want: lab.Verified},
		{name: "the largest reply", reply: padded(100_000), want: lab.Verified},
		{name: "a reply too large", reply: padded(100_001), want: lab.Refused},
	}
}

// padded is a secure answer of a size, with a host at its end. Its domain is
// given by a pattern that fits every name below test.
func padded(size int) string {
	head, tail := "OK secure match=.test", " servername=hostname"
	fill := strings.Repeat(":.a.test", (size-len(head)-len(tail))/len(":.a.test"))
	rest := size - len(head) - len(tail) - len(fill)
	return head + fill + strings.Repeat(" ", rest) + tail
}

// brokenRows: policies that Postfix does not understand defer the mail.
func brokenRows() []row {
	return []row{
		{name: "empty match", reply: "OK secure match= servername=hostname", want: lab.Refused},
		{name: "unknown attribute", reply: secure + " policy_ttl=86400", want: lab.Refused},
		{name: "servername twice", reply: secure + " servername=hostname", want: lab.Refused},
		{name: "match at level may", reply: "OK may match={mx}", want: lab.Refused},
		{name: "unknown level", reply: "OK sts", want: lab.Refused},
		{name: "open brace", reply: secure + " { policy_string = a", want: lab.Refused},
		{name: "no value", reply: secure + " match", want: lab.Refused},
	}
}

// reportRows: the attributes for reports are unknown before 3.10, and enforce
// the name of the MX host after.
func reportRows() []row {
	return []row{
		{name: "reports", reply: secure + reports, system: lab.Refused, next: lab.Verified},
		{name: "reports, wildcard", reply: secure + " policy_type=sts mx_host_pattern=*.{domain}", system: lab.Refused, next: lab.Verified},
		{name: "reports, MX host not in the policy", reply: secure + " policy_type=sts mx_host_pattern=mx.other.test", system: lab.Refused, next: lab.NoHostAllowed},
		{name: "reports, wildcard with a leading dot", reply: secure + " policy_type=sts mx_host_pattern=.{domain}", system: lab.Refused, next: lab.NoHostAllowed},
		{name: "pattern without a type", reply: secure + " mx_host_pattern={mx}", want: lab.Refused},
		{name: "policy domain that is none", reply: secure + " policy_type=sts policy_domain=[{domain}]:25", want: lab.Refused},
	}
}
