//go:build e2e

package delivery_test

import "tlspolicyd/test/lab"

// forgedScenes: somebody forges the DNS of an unsigned domain, and serves
// signed TLSA records for a host of his own, the first. Without a policy he
// gets the mail, and so he would with an answer of DANE; under a policy that
// enforces he never does, whatever the map and the release.
func forgedScenes() []scene {
	const forger = "mx.forger-{l}.example"
	const host = forger + ". 60 A {1}\n_25._tcp." + forger + ". 60 TLSA {key1}\n"
	return []scene{
		forged(scene{
			name: "MX forged, the forger has DANE and a good certificate", named: forger,
			records: "{d}. 60 MX 10 " + forger + ".\n" + host,
		}, notAllowed(never(lab.WrongName)), lab.Trusted, lab.Trusted),
		forged(scene{
			name: "MX forged, the forger has DANE", named: forger, first: lab.Unsigned,
			records: "{d}. 60 MX 10 " + forger + ".\n" + host,
		}, notAllowed(never(lab.WrongAuthority)), lab.Trusted, lab.Untrusted),
		forged(scene{
			name: "MX forged beside the right one", named: forger, first: lab.Unsigned,
			records: "{d}. 60 MX 10 " + forger + ".\n{d}. 60 MX 20 mx.{d}.\nmx.{d}. 60 A " + lab.DeadAddress + "\n" + host,
		}, never(lab.Outcome{Status: "deferred", Says: "Connection refused"}), lab.Trusted, lab.Untrusted),
		forged(scene{
			name: "domain forged into an alias", named: forger, first: lab.Unsigned,
			records: "{d}. 60 CNAME forger-{l}.example.\nforger-{l}.example. 60 MX 10 " + forger + ".\n" + host,
		}, notAllowed(never(lab.WrongAuthority)), lab.Trusted, lab.Untrusted),
		forged(scene{
			name: "MX host forged into an alias", named: forger,
			records: "{d}. 60 MX 10 mx.{d}.\nmx.{d}. 60 CNAME " + forger + ".\n" + host,
		}, never(lab.WrongName), lab.Trusted, lab.Trusted),
		forged(scene{
			name: "address and TLSA forged", first: lab.Unsigned,
			records: oneHost + daneOfFirst,
		}, never(lab.WrongAuthority), lab.Untrusted, lab.Untrusted),
	}
}

// notAllowed: the MX host is not one of the policy, which a Postfix before 3.10
// sees in the certificate only.
func notAllowed(old fate) fate {
	return fate{Outcome: lab.NoHostAllowed, old: &old}
}

// forged completes a scene: what becomes of mail under the policy, and, without
// one, on a relay that does DANE and on one that does not.
func forged(s scene, enforced fate, dane, may lab.Outcome) scene {
	s.zone, s.enforce, s.free = "test", answerSecure, answerNone
	s.dnssec = fates{enforced, first(dane), first(may)}
	s.without = fates{enforced, first(may), first(may)}
	return s
}
