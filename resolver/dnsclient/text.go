package dnsclient

import (
	"strings"

	"github.com/miekg/dns"
)

// Text returns the content of a TXT record byte for byte: its strings one
// after the other, without anything in between. The strings in the record
// itself are escaped as in a zone file.
func Text(rr *dns.TXT) string {
	var b strings.Builder
	for _, s := range rr.Txt {
		for s != "" {
			var c byte
			c, s = nextByte(s)
			b.WriteByte(c)
		}
	}
	return b.String()
}

// nextByte takes one byte from an escaped string that is not empty
// (RFC 1035, section 5.1).
func nextByte(s string) (c byte, rest string) {
	if s[0] != '\\' || len(s) == 1 {
		return s[0], s[1:]
	}
	if len(s) >= 4 && isDigit(s[1]) && isDigit(s[2]) && isDigit(s[3]) {
		return (s[1]-'0')*100 + (s[2]-'0')*10 + s[3] - '0', s[4:]
	}
	return s[1], s[2:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
