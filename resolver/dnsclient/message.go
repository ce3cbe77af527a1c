package dnsclient

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// ednsSize is the size of a datagram that is asked for, in bytes: it passes
// every link without fragments.
const ednsSize = 1232

// Offsets and bits of the header of a message (RFC 1035, section 4.1.1).
const (
	headerSize = 12
	bitQR      = 1 << 15
	bitTC      = 1 << 9
	maskOpcode = 0xF << 11
	maskRcode  = 0xF
)

// newQuery makes a query with EDNS.
func newQuery(q dns.Question) *dns.Msg {
	m := newPlainQuery(q)
	m.SetEdns0(ednsSize, false)
	return m
}

// newPlainQuery makes a query for a server that does not know EDNS.
func newPlainQuery(q dns.Question) *dns.Msg {
	var id [2]byte
	_, _ = rand.Read(id[:]) // Never fails.
	return &dns.Msg{
		MsgHdr: dns.MsgHdr{
			Id:               binary.BigEndian.Uint16(id[:]),
			RecursionDesired: true,
			// RFC 6840, section 5.7: AD in a query asks for AD in the
			// answer, without the signatures that DO would bring. CD stays
			// 0: what is bogus must not come.
			AuthenticatedData: true,
		},
		Question: []dns.Question{q},
	}
}

// fits reports whether a message answers q: its id and question, and that it
// is an answer at all. Only an answer that is an error may come without the
// question, since some servers leave it out there.
func fits(msg []byte, q *dns.Msg) bool {
	if len(msg) < headerSize || binary.BigEndian.Uint16(msg) != q.Id {
		return false
	}
	bits := binary.BigEndian.Uint16(msg[2:])
	if bits&bitQR == 0 || bits&maskOpcode != 0 {
		return false
	}
	switch binary.BigEndian.Uint16(msg[4:]) {
	case 0:
		rcode := bits & maskRcode
		return rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError
	case 1:
		return asks(msg, q.Question[0])
	default:
		return false
	}
}

// asks reports whether the one question of a message is q.
func asks(msg []byte, q dns.Question) bool {
	name, off, err := dns.UnpackDomainName(msg, headerSize)
	if err != nil || len(msg) < off+4 {
		return false
	}
	return strings.EqualFold(name, q.Name) &&
		binary.BigEndian.Uint16(msg[off:]) == q.Qtype &&
		binary.BigEndian.Uint16(msg[off+2:]) == q.Qclass
}

func isTruncated(msg []byte) bool {
	return binary.BigEndian.Uint16(msg[2:])&bitTC != 0
}

// unpack reads a message, all of it: one that ends before the records that it
// announces is not an answer with fewer records.
func unpack(msg []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		return nil, causef(KindMalformed, "read the answer: %w", err)
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		if len(section) != int(binary.BigEndian.Uint16(msg[6+2*i:])) {
			return nil, causef(KindMalformed, "the answer ends before its records")
		}
	}
	return m, nil
}

// rejectsEDNS reports whether a server may have failed because of EDNS
// (RFC 6891, sections 6.1.3 and 7).
func rejectsEDNS(m *dns.Msg) bool {
	return m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented || m.Rcode == dns.RcodeBadVers
}

// checkStatus returns an error for what is no answer.
func checkStatus(m *dns.Msg) error {
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		if !m.RecursionAvailable {
			return causef(KindLame, "the server does not recurse")
		}
		return nil
	case dns.RcodeServerFailure:
		return causef(KindServFail, "SERVFAIL%s", extended(m))
	case dns.RcodeRefused:
		return causef(KindRefused, "REFUSED%s", extended(m))
	default:
		return causef(KindRcode, "rcode %s%s", rcodeName(m.Rcode), extended(m))
	}
}

func rcodeName(rcode int) string {
	if name, ok := dns.RcodeToString[rcode]; ok {
		return name
	}
	return fmt.Sprint(rcode)
}

// extended returns the name of the extended error of a message in brackets
// (RFC 8914), or nothing. Its text is the server's own and left out.
func extended(m *dns.Msg) string {
	opt := m.IsEdns0()
	if opt == nil {
		return ""
	}
	for _, o := range opt.Option {
		ede, ok := o.(*dns.EDNS0_EDE)
		if !ok {
			continue
		}
		if name, known := dns.ExtendedErrorCodeToString[ede.InfoCode]; known {
			return fmt.Sprintf(" (%s)", name)
		}
		return fmt.Sprintf(" (extended error %d)", ede.InfoCode)
	}
	return ""
}

// errName is why a name is none.
var errName = errors.New("not a name that the DNS can hold")

// canonical returns a name as messages hold it: absolute, in lower case, and
// with everything escaped that needs it.
func canonical(name string) (string, error) {
	var wire [256]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), wire[:], 0, nil, false)
	if name == "" || err != nil {
		return "", errName
	}
	absolute, _, err := dns.UnpackDomainName(wire[:n], 0)
	if err != nil {
		return "", errName
	}
	return strings.ToLower(absolute), nil
}
