// Package mtasts finds out whether a domain has an MTA-STS policy, and what it
// says: it reads the TXT record that announces a policy, fetches the policy
// file over HTTPS, and says by which rules of time the next look and the next
// fetch are due.
//
// A [Resolver] makes the next fact of a domain from the previous one. It keeps
// nothing itself but the root certificates: remembering is the business of
// package cache, and the decision that of package policy. The parsers
// ([ParseRecords], [ParsePolicy]) know neither clock nor network.
//
// A policy is only ever replaced by one that was fetched, never by a failure
// and never by what the DNS says, since the DNS can be forged. "There is no
// record" and "the DNS gave no answer" are never confused.
//
// Limits of a fetch: one GET, over HTTP/1.1 (HTTP/2 is not spoken, and no web
// server does without HTTP/1.1); one deadline for all of it, a minute unless
// set; 8 addresses, raced at 250 ms, and tried one after the other while TLS
// fails; 16 KiB of headers; 64 KiB of policy file; no redirects, no compression,
// no cookies, no cached answers, no connection that is used twice. The address
// that is connected to is one that was checked: outside of the networks that
// are not part of the public Internet, unless allowed. Revocation of
// certificates is not looked at.
//
// Limits of many fetches: 2,048 connections at a time for questions, 64 of them
// to one address (of IPv6: to one subnet), for which 512 more wait, for 10 s at
// most; 8 to one address for refreshes, which wait for 1 s. With a proxy the name
// goes to the proxy: addresses, and how many connections each gets, are then its
// business.
//
// Specification: RFC 8461 (MTA-STS), with RFC 9112 and RFC 9110 (HTTP),
// RFC 8305 (racing of addresses), RFC 6890 (special addresses), RFC 9525
// (names in certificates).
package mtasts
