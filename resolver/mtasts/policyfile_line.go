package mtasts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"tlspolicyd/resolver/policy"
)

// The keys of a policy file. They are case-sensitive.
const (
	keyVersion = "version"
	keyMode    = "mode"
	keyMaxAge  = "max_age"
	keyMX      = "mx"
)

// maxAgeDigits is how many digits a max_age may have.
const maxAgeDigits = 10

// policyReader reads a policy file line by line. A line that is wrong is read
// on as far as its meaning is plain, so that one look finds all that is wrong;
// an error among the findings refuses the policy whatever comes after it.
type policyReader struct {
	policy policy.STSPolicy
	found  findings

	line       string // without its terminator
	lineNumber int

	first      map[string]int           // the line that a known key stood on first
	firstMX    map[policy.MXPattern]int // the same for a host
	meant      map[string]bool          // known keys that lines without a key seem to mean
	badMX      bool                     // an mx was outside of the grammar
	maxAgeRead bool                     // there is a max_age, and it is a number
}

// report adds a finding on text, a part of the line that begins at offset.
func (r *policyReader) report(offset int, f Finding) {
	f.Line = r.lineNumber
	f.Column = 1 + utf8.RuneCountInString(r.line[:offset])
	r.found.add(f)
}

// readLine reads one line: key ":" *WSP value *WSP (RFC 8461, section 3.2).
func (r *policyReader) readLine() {
	content := strings.Trim(r.line, wsp)
	if content == "" {
		r.report(0, Finding{
			Severity: SeverityLenient,
			Reason:   "the line is empty, which the grammar does not allow", Suggestion: "remove the line",
		})
		return
	}
	key, value, ok := strings.Cut(r.line, ":")
	name := strings.Trim(key, wsp)
	if !ok || !isFieldName(name) {
		reason, suggestion, meant := adviseLine(content, ok)
		r.meant[meant] = true
		r.report(0, Finding{Severity: SeverityError, Text: content, Reason: reason, Suggestion: suggestion})
		return
	}
	r.checkIndent(key, name)
	offset := len(r.line) - len(strings.TrimLeft(value, wsp))
	r.readField(name, strings.Trim(value, wsp), offset)
}

// checkIndent refuses white space around the key.
func (r *policyReader) checkIndent(key, name string) {
	const suggestion = "remove the white space"
	if strings.TrimLeft(key, wsp) != key {
		r.report(0, Finding{
			Severity: SeverityError, Key: known(name),
			Reason: "white space before the key", Suggestion: suggestion,
		})
	}
	if trimmed := strings.TrimRight(key, wsp); trimmed != key {
		r.report(len(trimmed), Finding{
			Severity: SeverityError, Key: known(name),
			Reason: "white space between the key and the colon", Suggestion: suggestion,
		})
	}
}

// readField reads the value of a key; it stands at offset in the line.
func (r *policyReader) readField(key, value string, offset int) {
	before := r.first[key]
	if before == 0 && known(key) != "" {
		r.first[key] = r.lineNumber
	}
	switch ok := r.checkValue(key, value, offset); {
	case key == keyMX && !ok:
		r.badMX = true
	case key == keyMX:
		r.readMX(value, offset)
	case !ok:
	case before != 0:
		// RFC 8461, section 3.2, last paragraph: all but the first are
		// ignored, whatever they say.
		r.report(offset, Finding{
			Severity: SeverityNote, Key: key, Text: value,
			Reason:     fmt.Sprintf("the key stands on line %d already, and only the first one counts", before),
			Suggestion: "remove one of the two lines",
		})
	default:
		r.readSingle(key, value, offset)
	}
}

// readSingle reads a field that counts once.
func (r *policyReader) readSingle(key, value string, offset int) {
	switch key {
	case keyVersion:
		r.readVersion(value, offset)
	case keyMode:
		r.readMode(value, offset)
	case keyMaxAge:
		r.readMaxAge(value, offset)
	default:
		r.readExtension(key, value)
	}
}

// checkValue refuses what no value may hold (RFC 8461, section 3.2:
// sts-policy-ext-value, of which all other values are special cases).
func (r *policyReader) checkValue(key, value string, offset int) bool {
	f := Finding{Severity: SeverityError, Key: known(key), Text: value}
	if value == "" {
		if f.Key == "" {
			f.Text = key
		}
		f.Reason, f.Suggestion = "there is no value after the colon", adviseEmpty(key)
		r.report(offset, f)
		return false
	}
	at, reason, suggestion := findBadCharacter(value)
	if at < 0 {
		return true
	}
	f.Reason, f.Suggestion = reason, suggestion
	r.report(offset+at, f)
	return false
}

// findBadCharacter finds the first character that no value may hold; at is
// negative if there is none.
func findBadCharacter(value string) (at int, reason, suggestion string) {
	for i := 0; i < len(value); {
		c, size := utf8.DecodeRuneInString(value[i:])
		switch {
		case c == utf8.RuneError && size == 1:
			return i, "bytes that are no UTF-8", "save the file as plain text in UTF-8 or ASCII"
		case c < ' ' || c == 0x7f:
			return i, fmt.Sprintf("control character %U in a value", c), "remove it, and end lines with LF or CRLF"
		}
		i += size
	}
	return -1, "", ""
}

func (r *policyReader) readVersion(value string, offset int) {
	if value != "STSv1" {
		r.report(offset, Finding{
			Severity: SeverityError, Key: keyVersion, Text: value,
			Reason: "must be STSv1, in exactly these letters", Suggestion: "version: STSv1",
		})
	}
}

func (r *policyReader) readMode(value string, offset int) {
	for _, m := range [...]policy.Mode{policy.ModeEnforce, policy.ModeTesting, policy.ModeNone} {
		if value == m.String() {
			r.policy.Mode = m
			return
		}
	}
	r.report(offset, Finding{
		Severity: SeverityError, Key: keyMode, Text: value,
		Reason:     "must be enforce, testing or none, in lower case and with nothing after it",
		Suggestion: adviseMode(value),
	})
}

// readMaxAge reads 1*10(DIGIT), a number of seconds.
func (r *policyReader) readMaxAge(value string, offset int) {
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err != nil || len(value) > maxAgeDigits || strings.Trim(value, "0123456789") != "" {
		r.report(offset, Finding{
			Severity: SeverityError, Key: keyMaxAge, Text: value,
			Reason: "must be a number of seconds, 1 to 10 digits and nothing else", Suggestion: adviseMaxAge(value),
		})
		return
	}
	r.maxAgeRead = true
	const most = int64(maxMaxAge / time.Second)
	// RFC 8461, section 3.2: "maximum value of 31557600".
	if seconds > most {
		seconds = most
		r.report(offset, Finding{
			Severity: SeverityLenient, Key: keyMaxAge, Text: value,
			Reason:     "more than a year, the most that is allowed; it counts as a year",
			Suggestion: fmt.Sprintf("max_age: %d", most),
		})
	}
	r.policy.MaxAge = time.Duration(seconds) * time.Second
}

// readMX reads ["*."] Domain. RFC 8461, section 3.2: each host has a line of
// its own.
func (r *policyReader) readMX(value string, offset int) {
	f := Finding{Key: keyMX, Text: value}
	pattern, err := policy.ParseMXPattern(value)
	switch {
	case errors.Is(err, policy.ErrNoHost):
		f.Severity = SeverityLenient
		f.Reason = "no mail host can have such a name, so the line is left out"
		f.Suggestion = "write the full name of the mail host, as in: mx: mail.example.com"
		r.report(offset, f)
	case err != nil:
		r.badMX = true
		f.Severity = SeverityError
		f.Reason, f.Suggestion = adviseMX(value)
		r.report(offset, f)
	default:
		r.keepMX(pattern, value, offset)
	}
}

// keepMX keeps a host, each once.
func (r *policyReader) keepMX(pattern policy.MXPattern, value string, offset int) {
	if strings.HasSuffix(value, ".") {
		r.report(offset, Finding{
			Severity: SeverityLenient, Key: keyMX, Text: value,
			Reason:     "the grammar does not allow a dot at the end",
			Suggestion: "mx: " + pattern.String(),
		})
	}
	if before := r.firstMX[pattern]; before != 0 {
		r.report(offset, Finding{
			Severity: SeverityNote, Key: keyMX, Text: value,
			Reason:     fmt.Sprintf("the same host stands on line %d already", before),
			Suggestion: "remove one of the two lines",
		})
		return
	}
	r.firstMX[pattern] = r.lineNumber
	r.policy.MX = append(r.policy.MX, pattern)
}

// readExtension passes over a key of nobody's (RFC 8461, section 3.2, last
// paragraph: unknown fields are ignored), but says so if it looks like a known
// one.
func (r *policyReader) readExtension(key, value string) {
	meant := resembles(key)
	if meant == "" {
		return
	}
	r.report(0, Finding{
		Severity: SeverityNote, Text: key,
		Reason:     fmt.Sprintf("mail servers ignore this key, since none has that name; is %s meant?", meant),
		Suggestion: adviseField(meant, value),
	})
}

// known returns key if it is one of the four, else nothing: any other is text
// of the file.
func known(key string) string {
	switch key {
	case keyVersion, keyMode, keyMaxAge, keyMX:
		return key
	default:
		return ""
	}
}
