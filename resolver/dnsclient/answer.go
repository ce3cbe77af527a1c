package dnsclient

import (
	"time"

	"github.com/miekg/dns"
)

// Security says what is known of an answer's DNSSEC validation. Where an answer
// was made from several messages, the smallest value counts: who cannot be
// relied on to say "insecure" cannot be relied on for the alias that led there
// either.
type Security uint8

// The three words. The zero value is the one that must not be mistaken for
// "insecure".
const (
	// Unknown: without AD, from a server that did not pass its last test. The
	// answer may be an unsigned one, or signed and not validated, or forged.
	Unknown Security = iota
	// Insecure: without AD, from a server that passed its last test.
	Insecure
	// Secure: with AD, from a server whose AD bit counts.
	Secure
)

// String returns the word.
func (s Security) String() string {
	switch s {
	case Insecure:
		return "insecure"
	case Secure:
		return "secure"
	default:
		return "unknown"
	}
}

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
	// Security is what the messages that the answer was made from say of
	// DNSSEC; the weakest word counts.
	Security Security
	// TTL is how long the answer may be remembered: the smallest TTL of the
	// chain and the records, or the negative TTL (RFC 2308, section 5:
	// the smaller of the SOA's TTL and its MINIMUM field). It is 0 for a
	// negative answer without SOA.
	TTL time.Duration
}
