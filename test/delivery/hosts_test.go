//go:build e2e

package delivery_test

import (
	"tlspolicyd/test/lab"
)

// The fates of mail to a host with DANE that fits, and to one without DANE
// with a certificate that is good for the policy.
var (
	fitting = all(first(lab.Verified))
	pkix    = fates{enforce: first(lab.Verified), own: first(lab.Trusted), dane: first(lab.Trusted)}
)

// hostScenes: the daemon and Postfix see the same in an MX host. Where DANE
// applies, its certificate is good for nothing else.
func hostScenes() []scene {
	return []scene{
		{
			name: "alias in the signed zone, TLSA at its end", first: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME end.{d}.\nend.{d}. 60 A {1}\n_25._tcp.end.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "alias in the signed zone, TLSA at the name itself", first: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME end.{d}.\nend.{d}. 60 A {1}\n_25._tcp.mx.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "alias in the signed zone, TLSA at both, the one of its end does not fit",
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME end.{d}.\nend.{d}. 60 A {1}\n" +
				"_25._tcp.end.{d}. 60 TLSA " + otherKey + "\n_25._tcp.mx.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: all(never(lab.WrongKey)),
		},
		{
			name: "alias in the signed zone, TLSA of its end bogus",
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME end.{d}.\nend.{d}. 60 A {1}\n" +
				"_25._tcp.end.{d}. 60 CNAME x.{l}.bogus.\n_25._tcp.mx.{d}. 60 TLSA {key1}",
			enforce: answerTemp, free: answerDANE,
			dnssec: fates{enforce: never(lab.Refused), own: never(lab.NoTLSAAnswer), dane: never(lab.NoTLSAAnswer)},
		},
		{
			name: "alias into an unsigned zone, TLSA at the name itself", first: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME end.{l}.test.\nend.{l}.test. 60 A {1}\n_25._tcp.mx.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "alias from an unsigned zone, TLSA at both", named: "mx.{l}.test",
			records: "{d}. 60 MX 10 mx.{l}.test.\nmx.{l}.test. 60 CNAME end.{d}.\nend.{d}. 60 A {1}\n" +
				"_25._tcp.end.{d}. 60 TLSA " + otherKey + "\n_25._tcp.mx.{l}.test. 60 TLSA " + otherKey,
			enforce: answerSecure, free: answerNone, dnssec: pkix,
		},
		{
			name: "TLSA by an alias in the signed zone", first: lab.Unsigned,
			records: oneHost + "_25._tcp.mx.{d}. 60 CNAME key.{d}.\nkey.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name:    "TLSA by an alias into an unsigned zone",
			records: oneHost + "_25._tcp.mx.{d}. 60 CNAME key.{l}.test.\nkey.{l}.test. 60 TLSA " + otherKey,
			enforce: answerSecure, free: answerNone, dnssec: pkix,
		},
		{
			name: "host in an unsigned zone, TLSA there", named: "mx.{l}.test",
			records: "{d}. 60 MX 10 mx.{l}.test.\nmx.{l}.test. 60 A {1}\n_25._tcp.mx.{l}.test. 60 TLSA " + otherKey,
			enforce: answerSecure, free: answerNone, dnssec: pkix,
		},
		{
			name: "host in an unsigned zone that drops questions for TLSA", named: "mx.{l}.mute",
			records: "{d}. 60 MX 10 mx.{l}.mute.\nmx.{l}.mute. 60 A {1}\n_25._tcp.mx.{l}.mute. 60 TLSA {key1}",
			enforce: answerSecure, free: answerNone, dnssec: pkix,
		},
		{
			name: "no MX record, the domain is the host", first: lab.Unsigned, named: "{d}",
			records: "{d}. 60 A {1}\n_25._tcp.{d}. 60 TLSA {key1}",
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "domain that is an alias", first: lab.Unsigned,
			records: "{d}. 60 CNAME to.{d}.\nto.{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 A {1}\n" + daneOfFirst,
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "MX that is an address", records: "{d}. 60 MX 10 {1}.",
			enforce: answerSecure, free: answerNone,
			dnssec: fates{enforce: notAllowed(first(lab.Verified)), own: first(lab.Trusted), dane: first(lab.Trusted)},
		},
		{
			name: "usable and unusable records of one host", first: lab.Unsigned,
			records: oneHost + daneOfFirst + "_25._tcp.mx.{d}. 60 TLSA " + unusable,
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: fitting,
		},
		{
			name: "address bogus, then usable", second: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{l}.bogus.\n{d}. 60 MX 20 second.{d}.\nsecond.{d}. 60 A {2}\n" + daneOfSecond,
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: all(second(lab.Verified)),
		},
		{
			name: "no address, then usable", second: lab.Unsigned,
			records: "{d}. 60 MX 10 mx.{d}.\n{d}. 60 MX 20 second.{d}.\nsecond.{d}. 60 A {2}\n" + daneOfSecond,
			enforce: answerDANEOnly, free: answerDANEOnly, dnssec: all(second(lab.Verified)),
		},
	}
}
