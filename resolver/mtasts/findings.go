package mtasts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity is how much a [Finding] matters.
type Severity uint8

// The severities, the worst first.
const (
	// SeverityError: mail servers refuse the policy.
	SeverityError Severity = iota
	// SeverityLenient: the standard does not allow it, or nothing can come of
	// it. tlspolicyd takes the policy all the same, others may not.
	SeverityLenient
	// SeverityNote: the standard allows it, but it is unwise, or likely a
	// mistake.
	SeverityNote

	severities = iota
)

// String returns the severity as a word.
func (s Severity) String() string {
	switch s {
	case SeverityError:
		return "error"
	case SeverityLenient:
		return "lenient"
	case SeverityNote:
		return "note"
	default:
		return fmt.Sprintf("severity(%d)", uint8(s))
	}
}

// MarshalText returns the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one remark on a policy file. Its names in JSON are an interface.
type Finding struct {
	// Line and Column say where, from 1, in characters; a byte order mark is
	// not counted. Both are 0 for a remark on the file as a whole.
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	// Key is the key that the remark is about: version, mode, max_age or mx.
	// Empty if it is about none of them.
	Key string `json:"key"`
	// Text is the text of the file that the remark is about, at most 80 bytes
	// of it. It may hold anything, control characters too: show it quoted.
	Text string `json:"text"`
	// Reason says what is the matter with it.
	Reason string `json:"reason"`
	// Suggestion is the line to write instead, or what to do in a few words.
	// It never repeats text of the file unchecked. It may be empty.
	Suggestion string `json:"suggestion"`
}

// String returns the place, the text, quoted, and the reason, in one line.
func (f Finding) String() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", f.Line, f.Column)
	}
	switch {
	case f.Key != "" && f.Text != "":
		fmt.Fprintf(&b, "%s %q: ", f.Key, f.Text)
	case f.Key != "":
		fmt.Fprintf(&b, "%s: ", f.Key)
	case f.Text != "":
		fmt.Fprintf(&b, "%q: ", f.Text)
	}
	b.WriteString(f.Reason)
	return b.String()
}

// maxFindings is how many findings of each severity are kept, and maxText how
// many bytes of the text that each is about.
const (
	maxFindings = 50
	maxText     = 80
)

// findings collects findings.
type findings struct {
	list  []Finding
	count [severities]int
}

// add keeps a finding, unless there are enough of its severity already.
func (fs *findings) add(f Finding) {
	fs.count[f.Severity]++
	if fs.count[f.Severity] > maxFindings {
		return
	}
	f.Text = clip(f.Text)
	fs.list = append(fs.list, f)
}

// refused reports whether there is an error among the findings.
func (fs *findings) refused() bool { return fs.count[SeverityError] > 0 }

// all returns the findings in the order of the lines, then those on the file as
// a whole, and at the end a word on those that were not kept.
func (fs *findings) all() []Finding {
	slices.SortStableFunc(fs.list, func(a, b Finding) int {
		return cmp.Compare(uint(a.Line-1), uint(b.Line-1)) // 0 comes last
	})
	for s, n := range fs.count {
		if n > maxFindings {
			fs.list = append(fs.list, Finding{
				Severity: Severity(s),
				Reason:   fmt.Sprintf("there are %d more like these, which are not shown", n-maxFindings),
			})
		}
	}
	return fs.list
}

// clip copies at most maxText bytes of s, whole characters only, so that what
// keeps them does not keep the file.
func clip(s string) string {
	if len(s) <= maxText {
		return strings.Clone(s)
	}
	const ellipsis = "..."
	end := maxText - len(ellipsis)
	for i := range utf8.UTFMax {
		if utf8.RuneStart(s[end-i]) {
			end -= i
			break
		}
	}
	return s[:end] + ellipsis
}
