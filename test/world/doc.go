//go:build e2e

// Package world is what a running tlspolicyd sees of the internet, made for
// tests that change it while the daemon runs, stops, is killed and comes back:
// a DNS server and the policy hosts of all domains, in the process of the
// test, and the daemon itself as a process of its own.
//
// There is no Postfix, no mail host and no signed zone in it; those are in
// package lab. Nothing is validated either: the DNS server says that the root
// is signed and that everything below "test." is not, so DANE never decides.
//
// The test binary starts itself again in network, mount and process spaces of
// its own (see [Main]). There every port and address of 127.0.0.0/8 is free, a
// test may mount what it likes, and nothing is left when it ends, however it
// ends. It must be run by root.
//
// A [World] is independent of every other one, so tests may run in parallel.
package world
