package policy

import (
	"fmt"
	"strconv"
)

// SMTPPort is the port of mail between servers, used when a next-hop names
// none.
const SMTPPort = 25

// NextHop is where Postfix is about to connect to: the key of a DANE fact. Two
// next-hops of one domain share its STS fact.
type NextHop struct {
	// Domain is the policy domain: the next-hop domain, or the smart host's
	// own name (RFC 8461, section 3.4).
	Domain Domain
	// Port is the TCP port; 0 means a service whose port is not known here,
	// for which no TLSA record can be looked up.
	Port uint16
	// SmartHost is set for a next-hop in brackets: the host itself, without
	// a look at its MX records.
	SmartHost bool
}

// String returns the next-hop as Postfix writes it; port 25 is left out, an
// unknown one is a question mark.
func (h NextHop) String() string {
	name := h.Domain.String()
	if h.SmartHost {
		name = "[" + name + "]"
	}
	switch h.Port {
	case SMTPPort:
		return name
	case 0:
		return fmt.Sprintf("%s:?", name)
	default:
		return name + ":" + strconv.Itoa(int(h.Port))
	}
}
