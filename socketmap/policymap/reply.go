package policymap

import (
	"strconv"
	"unicode/utf8"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
)

const (
	// maxPolicy is the longest policy: a reply without "OK ".
	maxPolicy = socketmap.MaxReply - len("OK ")
	// maxReason is how much of a reason Postfix logs.
	maxReason = 200
)

// Reasons of answers that should have been policies.
const (
	reasonNoPattern = "the policy names no MX host"
	reasonTooLong   = "the policy has too many MX hosts for Postfix"
	reasonUnknown   = "it cannot be known now"
)

// Render returns the reply for a verdict, as the map m gives it.
func Render(v policy.Verdict, m Map) socketmap.Reply {
	r := render(nil, &v, m.TLSRPT)
	return socketmap.Reply{Status: r.status, Text: string(r.text)}
}

// rendered is a reply whose text was appended to a buffer, and what had to be
// left out of it.
type rendered struct {
	status socketmap.Status
	text   []byte
	left   omission
}

// render appends the text of the reply for a verdict to text.
func render(text []byte, v *policy.Verdict, tlsrpt bool) rendered {
	switch v.Kind {
	case policy.NotFound:
		return rendered{status: socketmap.NotFound, text: text}
	case policy.DANEWhereFound:
		return rendered{status: socketmap.OK, text: append(text, "dane"...)}
	case policy.DANEOnly:
		return rendered{status: socketmap.OK, text: append(text, "dane-only"...)}
	case policy.Secure:
		return renderSecure(text, v, tlsrpt)
	default:
		return temp(text, v.Reason, v.Detail)
	}
}

func renderSecure(text []byte, v *policy.Verdict, tlsrpt bool) rendered {
	if v.Policy == nil || len(v.Policy.MX) == 0 {
		// Postfix takes an empty match for an error in all of the policy.
		return temp(text, reasonNoPattern, "")
	}
	s := secure{patterns: v.Policy.MX, left: leftReport}
	if tlsrpt {
		s.domain, s.text, s.left = v.Domain.String(), v.Policy.Text, leftNothing
	}
	out, fits := s.appendTo(text)
	for !fits && s.left < leftReport {
		s.left++
		out, fits = s.appendTo(text)
	}
	if !fits {
		return temp(text, reasonTooLong, "")
	}
	r := rendered{status: socketmap.OK, text: out}
	if tlsrpt {
		r.left = s.left // else nothing was asked for
	}
	return r
}

// temp says why there is no better reply: one line, the cause first, then what
// the facts add to it, of which any part may come from the domain.
func temp(text []byte, reason, detail string) rendered {
	if reason == "" {
		reason = reasonUnknown
	}
	if detail != "" {
		reason += ": " + detail
	}
	return rendered{status: socketmap.Temp, text: append(text, printable(reason, maxReason)...)}
}

// printable returns s with all but printable ASCII escaped. If that is longer
// than limit bytes, it is cut between two characters and ends in dots.
func printable(s string, limit int) string {
	const dots = "..."
	var out []byte
	cut := 0 // where there is room for the dots
	for i := 0; i < len(s); {
		_, width := utf8.DecodeRuneInString(s[i:])
		if c := s[i]; ' ' <= c && c <= '~' {
			out = append(out, c)
		} else {
			quoted := strconv.QuoteToASCII(s[i : i+width])
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		if len(out) > limit {
			return string(out[:cut]) + dots
		}
		if len(out) <= limit-len(dots) {
			cut = len(out)
		}
		i += width
	}
	return string(out)
}
