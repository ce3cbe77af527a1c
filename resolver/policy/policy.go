// Package policy holds the values that the whole program speaks in, and the
// one decision that is made from them.
//
// The values are a [Domain] and a [NextHop] (whose mail is it, and where does
// Postfix connect to), the two kinds of facts that are learned about them
// ([STS] by domain, [DANE] by next-hop), the [Class] of the map that asks, and
// the [Verdict] that [Decide] draws from all of these.
//
// The package does no I/O, reads no clock and starts no goroutine. It imports
// nothing of this program. Every value that comes from outside goes through a
// constructor of this package ([ParseDomain], [ParseMXPattern]), so that what
// reaches a reply to Postfix consists of letters, digits, hyphens and dots
// only.
//
// Time is an argument. A time that was read in this process carries Go's
// monotonic reading; see [Age] for what that means when the clock jumps.
//
// Specifications: RFC 8461 (MTA-STS), RFC 7672 (DANE for SMTP), RFC 5321
// section 4.1.2 (the syntax of a domain), RFC 5891 and UTS #46 (its mapping
// from Unicode).
package policy
