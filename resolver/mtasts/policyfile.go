package mtasts

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tlspolicyd/resolver/policy"
)

const (
	// maxPolicySize is the size of the largest policy file, in bytes.
	// RFC 8461, section 3.3, suggests this limit.
	maxPolicySize = 64 << 10
	// maxMaxAge is the longest life of a policy (RFC 8461, section 3.2).
	maxMaxAge = 31557600 * time.Second
	// byteOrderMark is what some editors put before a text in UTF-8.
	byteOrderMark = "\ufeff"
)

// PolicyError says why a policy file is refused: it is the first of the
// problems in the file. The others can be reached through Unwrap.
type PolicyError struct {
	Finding
	others []error // each is a *PolicyError
}

// Error returns the place, the text, quoted, and the reason, in one line.
func (e *PolicyError) Error() string { return e.String() }

// Unwrap returns the other problems in the file, in its order. Each is a
// [*PolicyError].
func (e *PolicyError) Unwrap() []error { return e.others }

// ParsePolicy reads a policy file by the grammar of RFC 8461, section 3.2.
// What is taken beyond that grammar: lines with nothing in them, one byte
// order mark at the start, one final dot of an mx, and a max_age above
// 31557600, which counts as that. An mx that the grammar allows though no host
// can have such a name is left out. Everything else is refused, and the error
// is a [*PolicyError].
func ParsePolicy(text string) (*policy.STSPolicy, error) {
	p, found := CheckPolicy(text)
	if p != nil {
		return p, nil
	}
	return nil, newPolicyError(found)
}

// newPolicyError makes an error of those findings that are errors; there is at
// least one.
func newPolicyError(found []Finding) *PolicyError {
	var first *PolicyError
	for _, f := range found {
		switch {
		case f.Severity != SeverityError:
		case first == nil:
			first = &PolicyError{Finding: f}
		default:
			first.others = append(first.others, &PolicyError{Finding: f})
		}
	}
	return first
}

// CheckPolicy reads a policy file as ParsePolicy does, and says all that there
// is to say about it, in the order of the file; remarks on the file as a whole
// come last. The policy is nil if, and only if, there is an error among the
// findings. Time grows with the length of the text alone, and the findings are
// bounded: at most 50 of each severity.
func CheckPolicy(text string) (*policy.STSPolicy, []Finding) {
	r := policyReader{
		first:   make(map[string]int),
		firstMX: make(map[policy.MXPattern]int),
		meant:   make(map[string]bool),
	}
	if f, refused := checkDocument(text); refused {
		return nil, []Finding{f}
	}
	r.policy.Text = text
	body, marked := strings.CutPrefix(text, byteOrderMark)
	if marked {
		r.found.add(Finding{
			Line: 1, Column: 1, Severity: SeverityLenient,
			Reason:     "the file begins with a byte order mark, which is not part of the format",
			Suggestion: "save the file as UTF-8 without a byte order mark",
		})
	}
	for body != "" {
		line, rest, terminated := strings.Cut(body, "\n")
		if terminated {
			// RFC 8461, section 3.2: a line ends with LF or CRLF.
			line = strings.TrimSuffix(line, "\r")
		}
		r.lineNumber++
		r.line = line
		r.readLine()
		body = rest
	}
	r.checkWhole()
	if r.found.refused() {
		return nil, r.found.all()
	}
	// A part of the reader would keep all of it.
	p := r.policy
	p.MX = slices.Clone(p.MX)
	return &p, r.found.all()
}

// checkDocument finds what is wrong with a file as such, when it makes no sense
// to go on line by line.
func checkDocument(text string) (f Finding, refused bool) {
	f = Finding{Severity: SeverityError}
	start := strings.TrimLeft(strings.TrimPrefix(text, byteOrderMark), wsp+"\r\n")
	switch {
	case len(text) > maxPolicySize:
		f.Reason = fmt.Sprintf("the file has %d bytes; mail servers need not read more than %d", len(text), maxPolicySize)
		f.Suggestion = "name the mail hosts by a wildcard, as in: mx: *.example.com"
	case start == "":
		f.Reason = "the file is empty"
		f.Suggestion = `write the four lines "version: STSv1", "mode: testing", "mx: mail.example.com" and "max_age: 604800"`
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		f.Reason = "the file is in UTF-16"
		f.Suggestion = "save the file as plain text in UTF-8 or ASCII"
	case strings.HasPrefix(start, `{\rtf`):
		f.Reason = "the file is a document in RTF, with formatting in it"
		f.Suggestion = "save the file as plain text"
	case strings.HasPrefix(start, "<"):
		f.Reason = "the file looks like a web page"
		f.Suggestion = "serve the policy file itself, as text/plain, with status 200 and no redirect"
	default:
		return Finding{}, false
	}
	return f, true
}

// checkWhole finds what the lines together lack.
func (r *policyReader) checkWhole() {
	// RFC 8461, section 3.2: version, mode and max_age are required once.
	r.require(keyVersion, "version: STSv1")
	r.require(keyMode, "mode: testing")
	r.require(keyMaxAge, "max_age: 604800")
	switch r.policy.Mode {
	case policy.ModeEnforce, policy.ModeTesting:
		r.checkHosts()
		r.checkLife()
	case policy.ModeNone:
		if len(r.policy.MX) > 0 {
			r.found.add(Finding{
				Line: r.first[keyMX], Column: 1, Severity: SeverityNote, Key: keyMX,
				Reason: "in mode none nobody looks at the mx lines",
			})
		}
	}
}

// checkHosts refuses a policy that no mail host can meet.
func (r *policyReader) checkHosts() {
	// RFC 8461, section 3.2: mx is required at least once, unless mode is none.
	r.require(keyMX, "mx: mail.example.com")
	if r.first[keyMX] != 0 && len(r.policy.MX) == 0 && !r.badMX {
		r.found.add(Finding{
			Severity: SeverityError, Key: keyMX,
			Reason:     "no line is left that names a mail host",
			Suggestion: "write one line for each mail host, as in: mx: mail.example.com",
		})
	}
}

// checkLife remarks on a short life. Not in mode none: who gives up MTA-STS
// does well to publish one (RFC 8461, section 8.3).
func (r *policyReader) checkLife() {
	if r.maxAgeRead && r.policy.MaxAge < 24*time.Hour {
		r.found.add(Finding{
			Line: r.first[keyMaxAge], Column: 1, Severity: SeverityNote, Key: keyMaxAge,
			Reason:     "a policy that lives less than a day protects little: whoever can hold off its renewal that long is rid of it",
			Suggestion: "max_age: 604800",
		})
	}
}

// require refuses a policy without key. It says so unless a line that is
// refused already seems to mean the key.
func (r *policyReader) require(key, line string) {
	if r.first[key] != 0 || r.meant[key] {
		return
	}
	r.found.add(Finding{
		Severity: SeverityError, Key: key,
		Reason:     "there is no such line, and a policy needs it",
		Suggestion: line,
	})
}
