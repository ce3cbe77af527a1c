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

// writer is what a policy is written to, piece by piece.
type writer interface {
	WriteString(s string) (int, error)
}

// counter is a writer that counts.
type counter int

func (c *counter) WriteString(s string) (int, error) {
	*c += counter(len(s))
	return len(s), nil
}

// size returns the size of the policy in bytes.
func (s *secure) size() int {
	var c counter
	write(s, &c)
	return int(c)
}

// render returns the policy, which has the given size.
func (s *secure) render(size int) string {
	var b strings.Builder
	b.Grow(size)
	write(s, &b)
	return b.String()
}

// write writes the policy. Postfix takes attributes for reports only after the
// type, and from 3.10.5 on matches MX hosts with the patterns as RFC 8461,
// section 4.1, says; an older one matches certificates, in which a leading dot
// stands for any labels.
func write[W writer](s *secure, w W) {
	w.WriteString(pieceMatch)
	for i, p := range s.patterns {
		if i > 0 {
			w.WriteString(":")
		}
		w.WriteString(matchName(p))
	}
	w.WriteString(pieceServerName)
	if s.left >= leftReport {
		return
	}
	w.WriteString(pieceType)
	if s.left < leftDomain && s.domain != "" {
		w.WriteString(pieceDomain)
		w.WriteString(s.domain)
	}
	for _, p := range s.patterns {
		w.WriteString(piecePattern)
		w.WriteString(p.String())
	}
	if s.left >= leftStrings {
		return
	}
	for line := range policyStrings(s.text) {
		w.WriteString(pieceString)
		w.WriteString(line)
		w.WriteString(pieceStringEnd)
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
