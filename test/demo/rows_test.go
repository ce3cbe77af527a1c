//go:build e2e

package demo_test

import (
	"testing"

	"tlspolicyd/test/lab"
)

// row is one domain, and what an attacker does to it.
type row struct {
	// domain is its name; below "example." it is signed.
	domain string
	// publishes and attack say for people what mode, tlsa and strike do.
	publishes, attack string
	// mode is that of its MTA-STS policy; empty means that it has none.
	mode string
	tlsa lab.TLSAKind
	// unknown says that the relay has sent no mail there before the attack.
	unknown bool
	// host is how the attacker's mail host treats those who want TLS.
	host lab.HostKind
	// strike is what he does; nil means that there is no attacker.
	strike func(t *testing.T, s *stage, domain string, attacker *lab.MailHost)

	// without and with are what becomes of a mail.
	without, with fate
	// policy is what tlspolicyd answers, with {domain} in it.
	policy string
	// logged is part of what Postfix logs, with it.
	logged string
	// remains says why the attacker gets the mail all the same, to a
	// domain …
	remains string
}

// The answers: the policy of a domain with one mail host, and none.
const (
	secure   = "secure match=mx.{domain} servername=hostname"
	notFound = "NOTFOUND"
)

// What Postfix logs.
const (
	verified   = "Verified TLS connection established to mx."
	noTLS      = "TLS is required, but was not offered"
	otherName  = "hostname mismatch"
	otherKey   = "no matching DANE TLSA records"
	takenByHim = "250 2.0.0 taken"
)

// rows are the demonstration, in this order.
func rows() []row {
	enforce := "MTA-STS, enforce"
	return append([]row{
		{domain: "calm.test", publishes: enforce, mode: "enforce", attack: "nothing",
			without: unchecked, with: checked, policy: secure, logged: verified},
		{domain: "strip.test", publishes: enforce, mode: "enforce", attack: "strips STARTTLS", host: lab.Stripped, strike: takeAddress,
			without: inClear, with: deferred, policy: secure, logged: noTLS},
		{domain: "forge.test", publishes: enforce, mode: "enforce", attack: "forges the MX: mx.attacker.test",
			host: lab.Stripped, strike: forgeMX,
			without: inClear, with: deferred, policy: secure, logged: noTLS},
		{domain: "lure.test", publishes: enforce, mode: "enforce",
			attack: "forges the MX: mx.attacker.test, which has a valid certificate", host: lab.OtherName, strike: forgeMX,
			without: encrypted, with: deferred, policy: secure, logged: otherName},
		{domain: "pose.test", publishes: enforce, mode: "enforce", attack: "shows a certificate for another name",
			host: lab.OtherName, strike: takeAddress,
			without: encrypted, with: deferred, policy: secure, logged: otherName},
		{domain: "block.test", publishes: enforce, mode: "enforce", host: lab.Stripped, strike: blockHost,
			attack:  "after the policy was learned: blocks the policy host, forges a new id, strips STARTTLS",
			without: inClear, with: deferred, policy: secure, logged: noTLS},
		{domain: "hide.test", publishes: enforce, mode: "enforce", host: lab.Stripped, strike: hideRecord,
			attack:  "after the policy was learned: removes the TXT record, strips STARTTLS",
			without: inClear, with: deferred, policy: secure, logged: noTLS},
		{domain: "crash.test", publishes: enforce, mode: "enforce", host: lab.Stripped, strike: crash,
			attack:  "the same, and blocks the policy host; then the relay crashes and starts again",
			without: inClear, with: deferred, policy: secure, logged: noTLS},
	}, otherRows()...)
}

// otherRows: what is not the business of tlspolicyd, or beyond its means.
func otherRows() []row {
	return []row{
		{domain: "both.example", publishes: "MTA-STS, enforce, and DANE", mode: "enforce", tlsa: lab.GoodTLSA,
			attack: "shows a certificate for the right name, by a deceived authority", host: lab.Right, strike: takeAddress,
			without: deferred, with: deferred, policy: "dane-only", logged: otherKey},
		{domain: "dane.example", publishes: "DANE", tlsa: lab.GoodTLSA,
			attack: "the same", host: lab.Right, strike: takeAddress,
			without: deferred, with: deferred, policy: notFound, logged: otherKey},
		{domain: "trial.test", publishes: "MTA-STS, testing", mode: "testing", attack: "strips STARTTLS", host: lab.Stripped, strike: takeAddress,
			without: inClear, with: inClear, policy: notFound, logged: takenByHim, remains: "that only tries its policy"},
		{domain: "open.test", publishes: "nothing", attack: "strips STARTTLS", host: lab.Stripped, strike: takeAddress,
			without: inClear, with: inClear, policy: notFound, logged: takenByHim, remains: "that publishes nothing"},
		{domain: "first.test", publishes: "MTA-STS, enforce", mode: "enforce", unknown: true, host: lab.Stripped, strike: blockHost,
			attack:  "before the very first mail: blocks the policy host, strips STARTTLS",
			without: inClear, with: inClear, policy: notFound, logged: takenByHim, remains: "whose policy was never seen"},
	}
}

// takeAddress gives the attacker the address of the mail host: the same is in
// the power of whoever sits on the way to it, signed zones or not.
func takeAddress(t *testing.T, s *stage, domain string, attacker *lab.MailHost) {
	s.lab.Zones.Set(t, "mx."+domain+". 60 A "+attacker.Addr)
}

// forgeMX answers with an MX host of the attacker's own.
func forgeMX(t *testing.T, s *stage, domain string, attacker *lab.MailHost) {
	s.lab.Zones.Set(t, domain+". 60 MX 10 "+attackerMX+".\n"+attackerMX+". 60 A "+attacker.Addr)
}

// blockHost leaves the policy host of a domain without an answer, and announces
// another policy, so that one is fetched.
func blockHost(t *testing.T, s *stage, domain string, attacker *lab.MailHost) {
	takeAddress(t, s, domain, attacker)
	s.lab.Zones.Set(t, "mta-sts."+domain+". 60 A "+lab.DeadAddress+
		"\n_mta-sts."+domain+`. 1 TXT "v=STSv1; id=forged"`)
	s.await(t, domain, "fetched the policy", `"forged"`, `"connect"`)
}

// hideRecord removes the record that says that there is a policy.
func hideRecord(t *testing.T, s *stage, domain string, attacker *lab.MailHost) {
	takeAddress(t, s, domain, attacker)
	s.lab.Zones.Remove(t, "_mta-sts."+domain+".", "TXT")
	s.await(t, domain, "looked at the TXT record", `"absent"`)
}

// crash ends the daemon without a warning, with nothing left to learn from.
func crash(t *testing.T, s *stage, domain string, attacker *lab.MailHost) {
	takeAddress(t, s, domain, attacker)
	s.lab.Zones.Remove(t, "_mta-sts."+domain+".", "TXT")
	s.lab.Zones.Set(t, "mta-sts."+domain+". 60 A "+lab.DeadAddress)
	s.daemon.Kill()
	s.daemon = s.lab.StartDaemon(s.t, s.options)
}
