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

// size returns the size of the policy in bytes.
func (s *secure) size() int {
	o := output{counting: true}
	s.write(&o)
	return o.size
}

// render returns the policy, which has the given size.
func (s *secure) render(size int) string {
	var o output
	o.text.Grow(size)
	s.write(&o)
	return o.text.String()
}

// output is what a policy is written to; if it counts, only the size is kept.
type output struct {
	counting bool
	size     int
	text     strings.Builder
}

func (o *output) add(s string) {
	if o.counting {
		o.size += len(s)
		return
	}
	o.text.WriteString(s)
}

// write writes the policy. Postfix takes attributes for reports only after the
// type, and from 3.10.5 on matches MX hosts with the patterns as RFC 8461,
// section 4.1, says; an older one matches certificates, in which a leading dot
// stands for any labels.
func (s *secure) write(o *output) {
	o.add(pieceMatch)
	for i, p := range s.patterns {
		if i > 0 {
			o.add(":")
		}
		o.add(matchName(p))
	}
	o.add(pieceServerName)
	if s.left >= leftReport {
		return
	}
	o.add(pieceType)
	if s.left < leftDomain && s.domain != "" {
		o.add(pieceDomain)
		o.add(s.domain)
	}
	for _, p := range s.patterns {
		o.add(piecePattern)
		o.add(p.String())
	}
	if s.left >= leftStrings {
		return
	}
	for line := range policyStrings(s.text) {
		o.add(pieceString)
		o.add(line)
		o.add(pieceStringEnd)
	}
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
