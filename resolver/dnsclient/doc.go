// Package dnsclient asks the DNS one question at a time, as a stub resolver
// of a recursive server that validates DNSSEC. All of the program's questions
// go through it.
//
// It follows aliases, fails over between servers, and tells "there is none"
// (an [Answer]) from "cannot know" (an [Error]). It does not cache, does not
// validate signatures itself, and does not recurse: whether an answer is
// secure is what a server says whose AD bit counts. That is a server on a
// loopback address, every server if [Options].TrustAD is set, and those of
// resolv.conf if that file says "options trust-ad". Search lists are never
// applied: every name is absolute.
//
// Each server is tested: does it answer ". NS", which is signed, with AD? Only
// what comes without AD from a server that passed its last test is known to be
// insecure; from any other it is of unknown security. See [Client.Run] for when
// tests are made, and [Client.Validating] for what they say together.
//
// Limits: one try lasts at most [Options].Timeout (2 s), and a query makes at
// most [Options].Attempts (3) tries that fail; at most [Options].MaxInFlight
// (4096) queries hold a socket, one each, the others wait; tests hold one more
// for each server. A message has at most 65,535 bytes; over UDP at most 1,232
// are asked for. A chain of aliases has at most 8 links. resolv.conf is looked
// at once a second at most, and read up to 64 KiB.
//
// Security: every try has a socket of its own, with a port that the kernel
// chooses at random, and a random id. What does not fit the question is
// dropped and waiting goes on, so that a forged datagram can neither be
// believed nor stop the right one.
//
// Servers are asked in the order of the list, those first that passed their
// last test. A failure leads to the next one; but SERVFAIL of a server that
// passed is final, since one that does not validate would give out bogus data.
// If the failure was silence, the one that answered stays the first choice
// until it fails, but for one query every 30 s that tries the list's first. An
// error that a server speaks of changes no choice, and neither does an answer
// from a server whose AD bit does not count while there is one whose does:
// otherwise one bogus or slow domain could take the proof away from the others.
//
// Specifications: RFC 1034 and 1035, RFC 2181 sections 5, 8 and 10.1 (RRsets,
// TTL, aliases), RFC 2308 (negative answers), RFC 6840 section 5.7 (AD in
// queries), RFC 6891 (EDNS), RFC 7672 section 2.1 (whose AD bit counts, and what
// is no answer), RFC 7766 (TCP), resolv.conf(5).
package dnsclient
