package dnsclient

import (
	"time"

	"github.com/miekg/dns"
)

// Answer is what the DNS says to one question. "There is none" is an answer:
// Records is empty then, and the error nil.
type Answer struct {
	// Name is the name at the end of the CNAME chain, in lower case with its
	// final dot; the name that was asked for when there is no chain.
	Name string
	// Records are those of the type asked for, owned by Name. Empty means
	// that none exist (NODATA or NXDOMAIN).
	Records []dns.RR
	// Exists is false for NXDOMAIN, at the end of the chain.
	Exists bool
	// Secure says that every message the answer was made from had the AD bit,
	// from a server whose AD bit counts.
	Secure bool
	// TTL is how long the answer may be remembered: the smallest TTL of the
	// chain and the records, or the negative TTL (RFC 2308, section 5:
	// the smaller of the SOA's TTL and its MINIMUM field). It is 0 for a
	// negative answer without SOA.
	TTL time.Duration
}
