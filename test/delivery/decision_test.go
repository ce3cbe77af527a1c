//go:build e2e

package delivery_test

import (
	"strings"

	"tlspolicyd/test/lab"
)

// What the daemon answers.
const (
	answerSecure   = "OK secure"
	answerDANE     = "OK dane"
	answerDANEOnly = "OK dane-only"
	answerTemp     = "TEMP"
	answerNone     = "NOTFOUND "
)

// Data of TLSA records that fit no certificate: of one that could, and of one
// that is not for mail (RFC 7672, section 3.1.3).
var (
	otherKey = "3 1 1 " + strings.Repeat("00", 32)
	unusable = "1 1 1 " + strings.Repeat("00", 32)
)

// One signed host; two of which the first is preferred.
const (
	oneHost = `
		{d}. 60 MX 10 mx.{d}.
		mx.{d}. 60 A {1}
		`
	twoHosts = `
		{d}. 60 MX 10 mx.{d}.
		{d}. 60 MX 20 second.{d}.
		mx.{d}. 60 A {1}
		second.{d}. 60 A {2}
		`
)

// Records that make the first or the second host one with DANE.
const (
	daneOfFirst  = "_25._tcp.mx.{d}. 60 TLSA {key1}\n"
	daneOfSecond = "_25._tcp.second.{d}. 60 TLSA {key2}\n"
	// brokenFirst cannot be validated.
	brokenFirst = "_25._tcp.mx.{d}. 60 CNAME x.{l}.bogus.\n"
)

// What Postfix does without DNSSEC: an answer dane-only defers the mail, and
// an answer dane counts as may.
var (
	deferredAll = fates{enforce: never(lab.Refused), own: first(lab.Untrusted), dane: never(lab.Refused)}
	mayBe       = first(lab.Trusted)
)

// decisionScenes are the rows of the table of policy.Decide, in its order.
func decisionScenes() []scene {
	return []scene{
		// MX insecure, none, or every host plain.
		{
			name: "MX insecure, host with DANE", zone: "test", named: "mx.{l}.example",
			records: "{d}. 60 MX 10 mx.{l}.example.\nmx.{l}.example. 60 A {1}\n_25._tcp.mx.{l}.example. 60 TLSA {key1}",
			enforce: answerSecure, free: answerNone,
			dnssec:  fates{enforce: first(lab.Verified), own: first(lab.Trusted), dane: mayBe},
			without: fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
		},
		{
			name: "MX insecure, host with DANE, self-signed", zone: "test", named: "mx.{l}.example", first: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{l}.example.\nmx.{l}.example. 60 A {1}\n_25._tcp.mx.{l}.example. 60 TLSA {key1}",
			enforce: answerSecure, free: answerNone,
			dnssec:  fates{enforce: never(lab.WrongAuthority), own: first(lab.Trusted), dane: first(lab.Untrusted)},
			without: fates{enforce: never(lab.WrongAuthority), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
		},
		{
			// Under a policy it is there, though without any record of its own.
			name:    "no such domain",
			enforce: answerSecure, free: answerNone,
			dnssec: all(never(lab.NoHost)), without: all(never(lab.NoHost)),
		},
		{
			name: "null MX", records: "{d}. 60 MX 0 .",
			enforce: answerSecure, free: answerNone,
			dnssec: all(never(lab.NoMail)), without: all(never(lab.NoMail)),
		},
		{
			name: "every host plain", records: twoHosts,
			enforce: answerSecure, free: answerNone,
			dnssec:  fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
			without: fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
		},

		// MX failed, or some failed and none usable.
		{
			name: "MX failed for the daemon only", records: oneHost + daneOfFirst, first: lab.Unsigned, mxFails: true,
			enforce: answerTemp, free: answerDANE,
			dnssec:  fates{enforce: never(lab.Refused), own: first(lab.Verified), dane: first(lab.Verified)},
			without: fates{enforce: never(lab.Refused), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
		},
		{
			name: "MX bogus", zone: "bogus", records: oneHost,
			free:   answerDANE, // the TXT record is bogus too
			dnssec: all(never(lab.NoAnswer)), without: all(never(lab.NoAnswer)),
		},
		{
			name: "only unreachable: the address is bogus", records: "{d}. 60 MX 10 mx.{l}.bogus.",
			enforce: answerTemp, free: answerDANE,
			dnssec: all(never(lab.NoAnswer)), without: all(never(lab.NoAnswer)),
		},
		{
			name: "failed, then plain", records: twoHosts + brokenFirst,
			enforce: answerTemp, free: answerDANE,
			dnssec:  fates{enforce: never(lab.Refused), own: second(lab.Trusted), dane: second(lab.Trusted)},
			without: fates{enforce: never(lab.Refused), own: mayBe, dane: mayBe},
		},
		{
			name: "only failed: bogus", records: oneHost + brokenFirst,
			enforce: answerTemp, free: answerDANE,
			dnssec:  fates{enforce: never(lab.Refused), own: never(lab.NoTLSAAnswer), dane: never(lab.NoTLSAAnswer)},
			without: fates{enforce: never(lab.Refused), own: mayBe, dane: mayBe},
		},
		{
			name: "only failed: questions for TLSA are dropped", named: "mx.{l}.silent",
			records: "{d}. 60 MX 10 mx.{l}.silent.\nmx.{l}.silent. 60 A {1}\n_25._tcp.mx.{l}.silent. 60 TLSA {key1}",
			enforce: answerTemp, free: answerDANE,
			dnssec:  fates{enforce: never(lab.Refused), own: never(lab.NoTLSAAnswer), dane: never(lab.NoTLSAAnswer)},
			without: fates{enforce: never(lab.Refused), own: mayBe, dane: mayBe},
		},

		// Only unusable and plain.
		{
			name: "unusable", records: oneHost + "_25._tcp.mx.{d}. 60 TLSA " + unusable,
			enforce: answerSecure, free: answerDANE,
			dnssec:  fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
			without: fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
		},
		{
			name: "unusable, self-signed", first: lab.Unsigned, records: oneHost + "_25._tcp.mx.{d}. 60 TLSA " + unusable,
			enforce: answerSecure, free: answerDANE,
			dnssec:  fates{enforce: never(lab.WrongAuthority), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
			without: fates{enforce: never(lab.WrongAuthority), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
		},
		{
			name: "unusable, STARTTLS stripped", first: lab.Stripped, records: oneHost + "_25._tcp.mx.{d}. 60 TLSA " + unusable,
			enforce: answerSecure, free: answerDANE,
			dnssec:  all(never(lab.NotOffered)),
			without: fates{enforce: never(lab.NotOffered), own: first(lab.InClear), dane: first(lab.InClear)},
		},

		// All usable.
		{
			name: "usable, self-signed", first: lab.Unsigned, records: oneHost + daneOfFirst,
			enforce: answerDANEOnly, free: answerDANEOnly,
			dnssec: all(first(lab.Verified)), without: deferredAll,
		},
		{
			// RFC 8461, section 2: MTA-STS does not override DANE that fails.
			name: "usable, another key, certificate good", records: oneHost + "_25._tcp.mx.{d}. 60 TLSA " + otherKey,
			enforce: answerDANEOnly, free: answerDANEOnly,
			dnssec:  all(never(lab.WrongKey)),
			without: fates{enforce: never(lab.Refused), own: mayBe, dane: never(lab.Refused)},
		},
		{
			name: "usable, STARTTLS stripped", first: lab.Stripped, records: oneHost + "_25._tcp.mx.{d}. 60 TLSA " + otherKey,
			enforce: answerDANEOnly, free: answerDANEOnly,
			dnssec:  all(never(lab.NotOffered)),
			without: fates{enforce: never(lab.Refused), own: first(lab.InClear), dane: never(lab.Refused)},
		},

		// Some usable, some not.
		{
			name: "failed, then usable", first: lab.Unsigned, second: lab.Unsigned, records: twoHosts + brokenFirst + daneOfSecond,
			enforce: answerDANEOnly, free: answerDANE,
			dnssec:  all(second(lab.Verified)),
			without: fates{enforce: never(lab.Refused), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
		},
		{
			name: "usable, then plain", first: lab.Unsigned, records: twoHosts + daneOfFirst,
			enforce: answerDANEOnly, free: answerDANE,
			dnssec:  all(first(lab.Verified)),
			without: fates{enforce: never(lab.Refused), own: first(lab.Untrusted), dane: first(lab.Untrusted)},
		},
		{
			// No mail to a host without DANE because the one with DANE is away.
			name: "usable but away, then plain", second: lab.Stripped,
			records: strings.Replace(twoHosts, "{1}", lab.DeadAddress, 1) + daneOfFirst,
			enforce: answerDANEOnly, free: answerDANE,
			dnssec:  fates{enforce: never(lab.NoKey), own: second(lab.InClear), dane: second(lab.InClear)},
			without: fates{enforce: never(lab.Refused), own: second(lab.InClear), dane: second(lab.InClear)},
		},
		{
			name: "plain, then usable", second: lab.Unsigned, records: twoHosts + daneOfSecond,
			enforce: answerSecure, free: answerDANE,
			dnssec:  fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
			without: fates{enforce: first(lab.Verified), own: mayBe, dane: mayBe},
		},
		{
			// The policy is enforced at both, DANE or not.
			name: "plain and stripped, then usable", first: lab.Stripped, records: twoHosts + daneOfSecond,
			enforce: answerSecure, free: answerDANE,
			dnssec:  fates{enforce: second(lab.Verified), own: first(lab.InClear), dane: first(lab.InClear)},
			without: fates{enforce: second(lab.Verified), own: first(lab.InClear), dane: first(lab.InClear)},
		},
		{
			name:    "usable and plain of one preference",
			records: strings.Replace(twoHosts, "20 second", "10 second", 1) + daneOfFirst,
			enforce: answerSecure, free: answerDANE,
		},
	}
}
