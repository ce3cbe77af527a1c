package policymap

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"tlspolicyd/resolver/policy"
)

// omission is how much of the attributes for TLSRPT is left out.
type omission uint8

// The steps in which a policy is made shorter.
const (
	leftNothing omission = iota
	leftStrings          // every policy_string
	leftDomain           // policy_domain too
	leftReport           // policy_type and every mx_host_pattern too
)

// String returns the attributes that are left out.
func (o omission) String() string {
	switch o {
	case leftStrings:
		return "policy_string"
	case leftDomain:
		return "policy_string, policy_domain"
	case leftReport:
		return "policy_string, policy_domain, policy_type, mx_host_pattern"
	default:
		return "nothing"
	}
}

// The pieces of a policy.
const (
	pieceMatch      = "secure match="
	pieceServerName = " servername=hostname"
	pieceType       = " policy_type=sts"
	pieceDomain     = " policy_domain="
	piecePattern    = " mx_host_pattern="
	pieceString     = " { policy_string = "
	pieceStringEnd  = " }"
)

// secure is a policy of the level secure.
type secure struct {
	patterns []policy.MXPattern
	domain   string // empty if it is not known
	text     string
	left     omission
}

// appendTo appends the policy to dst, and reports whether it is short enough for
// Postfix; as soon as it is not, the rest is left out.
//
// Postfix takes attributes for reports only after the type, and from 3.10.5 on
// matches MX hosts with the patterns as RFC 8461, section 4.1, says; an older
// one matches certificates, in which a leading dot stands for any labels.
func (s *secure) appendTo(dst []byte) (out []byte, fits bool) {
	most := len(dst) + maxPolicy
	dst = append(dst, pieceMatch...)
	for i, p := range s.patterns {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = append(dst, matchName(p)...)
	}
	dst = append(dst, pieceServerName...)
	if s.left < leftReport {
		dst = s.appendReport(dst, most)
	}
	return dst, len(dst) <= most
}

// appendReport appends the attributes for reports, up to where dst is longer
// than most.
func (s *secure) appendReport(dst []byte, most int) []byte {
	dst = append(dst, pieceType...)
	if s.left < leftDomain && s.domain != "" {
		dst = append(dst, pieceDomain...)
		dst = append(dst, s.domain...)
	}
	for _, p := range s.patterns {
		dst = append(dst, piecePattern...)
		dst = append(dst, p.String()...)
	}
	if s.left >= leftStrings {
		return dst
	}
	for line := range policyStrings(s.text) {
		if len(dst) > most {
			break
		}
		dst = append(dst, pieceString...)
		dst = append(dst, line...)
		dst = append(dst, pieceStringEnd...)
	}
	return dst
}

// matchName is how Postfix writes a pattern. A pattern has two labels at least,
// so it is none of the words hostname, nexthop and dot-nexthop.
func matchName(p policy.MXPattern) string {
	if suffix, wildcard := p.Suffix(); wildcard {
		return suffix
	}
	return p.String()
}

// byteOrderMark begins some files. It belongs to the encoding, not to the
// first line.
const byteOrderMark = "\ufeff"

// policyStrings are the lines of a policy file that can be reported as they
// were published, in order.
func policyStrings(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(strings.TrimPrefix(text, byteOrderMark), "\n") {
			line = strings.TrimSuffix(line, "\r")
			if isReportable(line) && !yield(line) {
				return
			}
		}
	}
}

// isReportable reports whether a line can stand in a group in braces. A brace
// could end the group or never let it end; a control character could end the
// line of a log or the whole policy. Postfix refuses a line of blanks: stripped
// it is empty.
func isReportable(line string) bool {
	if strings.Trim(line, " ") == "" || strings.ContainsAny(line, "{}") || !utf8.ValidString(line) {
		return false
	}
	return strings.IndexFunc(line, unicode.IsControl) < 0
}
