//go:build e2e

// Package lab is a small internet in one process group: everything between a
// relay's Postfix and the mail hosts of other domains, real where it matters,
// so that tlspolicyd can be tested from outside.
//
// Real are Postfix (two releases), a validating Unbound, and the zones, signed
// by Knot from a root of their own. Written here, because tests must look into
// them and break them, are the policy hosts (HTTPS), the mail hosts (SMTP), the
// attacker, who is a mail host too, and a forwarder that counts DNS queries.
//
// The test binary starts itself again in network, mount, process, IPC and host
// name spaces of its own (see [Main]). There it has every port, the addresses
// 127.0.0.0/8, a /run and an /etc/resolv.conf to itself, and no way out: nothing
// of the machine is changed, and nothing is left when it ends, however it ends.
// It must be run by root, on the machine that test/setup.sh has prepared.
//
// Addresses:
//
//	127.0.0.1:53        Unbound, what /etc/resolv.conf names
//	127.0.0.53:53       Knot, authoritative for every zone
//	127.0.0.54:53       the same, but for questions for TLSA, which it drops
//	127.0.0.1:8461      the policy map: tlspolicyd, or a scripted one
//	127.0.0.2:443       every policy host
//	127.9.0.2:443       the same, where the daemon may not go
//	127.0.0.3           an address where nobody listens
//	127.1.0.0/16:25     mail hosts, an address each
//
// Zones: "example." is signed, "test." is delegated without DS, so its data are
// insecure, and "bogus." has a DS that fits no key, so it gives SERVFAIL. The
// server of "silent." (signed) and "mute." (insecure) drops questions for TLSA.
// Domains
// of a test are names below these; there are no zones below them.
//
// One lab runs at a time in a process, but its parts may be used by parallel
// subtests.
package lab
