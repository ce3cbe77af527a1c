package mtasts

import (
	"errors"
	"fmt"
	"strings"
)

// Why a set of TXT records announces no policy. All of them mean the same to
// mail, "absent"; the difference is for people.
var (
	// ErrNoRecord: none of the TXT records is one of MTA-STS.
	ErrNoRecord = errors.New(`no TXT record begins with "v=STSv1;"`)
	// ErrManyRecords: more than one is, and nobody can say which one holds.
	ErrManyRecords = errors.New(`more than one TXT record begins with "v=STSv1;"`)
)

// RecordError says why the one TXT record that begins like a record of MTA-STS
// is none.
type RecordError struct {
	// Text is the record, cut short if it is long; it may hold any bytes.
	Text string
	// Reason says what is wrong with it.
	Reason string
}

// Error returns the reason, then the record, quoted.
func (e *RecordError) Error() string {
	return fmt.Sprintf("%s in TXT record %q", e.Reason, e.Text)
}

const (
	// recordVersion is what a record begins with, in exactly these letters.
	recordVersion = "v=STSv1"
	// maxRecordWord is the length of the longest id and of the longest name
	// of an extension, in bytes.
	maxRecordWord = 32
	// wsp is WSP of RFC 5234, appendix B.1.
	wsp = " \t"
)

// ParseRecords reads the TXT records at _mta-sts.<domain> and returns the id of
// the policy that they announce. Each element of texts is one record, its
// strings joined without anything between them, as the bytes that stand in the
// DNS (not with the escapes of zone files). The error is [ErrNoRecord],
// [ErrManyRecords] or a [*RecordError].
func ParseRecords(texts []string) (id string, err error) {
	text, err := soleRecord(texts)
	if err != nil {
		return "", err
	}
	id, reason := parseRecord(text)
	if reason != "" {
		return "", &RecordError{Text: clip(text), Reason: reason}
	}
	return id, nil
}

// soleRecord finds the one record of MTA-STS. Whether it is well-formed is
// another question, and comes after the count.
func soleRecord(texts []string) (string, error) {
	// RFC 8461, section 3.1: only "if multiple TXT records [...] are returned"
	// are those dropped that do not begin with the version and a semicolon. So
	// white space before the semicolon, which the grammar allows, is fine in a
	// record that stands alone.
	if len(texts) == 1 && strings.HasPrefix(texts[0], recordVersion) {
		return texts[0], nil
	}
	sole, count := "", 0
	for _, text := range texts {
		if strings.HasPrefix(text, recordVersion+";") {
			sole, count = text, count+1
		}
	}
	switch count {
	case 0:
		return "", noRecord(texts)
	case 1:
		return sole, nil
	default:
		// RFC 8461, section 3.1: if what is left is not exactly one record,
		// the domain has no policy.
		return "", fmt.Errorf("%w: there are %d", ErrManyRecords, count)
	}
}

// noRecord shows what is there instead of a record: what comes nearest to one.
func noRecord(texts []string) error {
	if len(texts) == 0 {
		return ErrNoRecord
	}
	near := texts[0]
	for _, text := range texts {
		if strings.HasPrefix(text, recordVersion) {
			near = text
			break
		}
	}
	return fmt.Errorf("%w: found %q", ErrNoRecord, clip(near))
}

// parseRecord reads one record, which begins with the version, by the grammar
// of RFC 8461, section 3.1. It returns either an id or the reason why there is
// none.
func parseRecord(text string) (id, reason string) {
	rest := strings.TrimPrefix(text, recordVersion)
	for rest != "" {
		var ok bool
		if rest, ok = cutDelimiter(rest); !ok {
			return "", `text without a ";" before it`
		}
		if rest == "" {
			break // RFC 8461, section 3.1: one delimiter may end the record.
		}
		end := strings.IndexAny(rest, ";"+wsp)
		if end < 0 {
			end = len(rest)
		}
		name, value, reason := parseRecordField(rest[:end])
		if reason != "" {
			return "", reason
		}
		rest = rest[end:]
		// RFC 8461, section 3.2, last paragraph: of a field that stands there
		// twice, all but the first are ignored.
		if name != "id" || id != "" {
			continue
		}
		if !isID(value) {
			return "", "id of other than 1 to 32 letters and digits"
		}
		id = value
	}
	if id == "" {
		return "", "no id"
	}
	return id, ""
}

// cutDelimiter cuts *WSP ";" *WSP off the front.
func cutDelimiter(s string) (rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimLeft(s, wsp), ";")
	return strings.TrimLeft(s, wsp), ok
}

// parseRecordField splits a field, and checks what holds for the name and the
// value of any.
func parseRecordField(field string) (name, value, reason string) {
	name, value, ok := strings.Cut(field, "=")
	switch {
	case field == "":
		return "", "", `two ";" with nothing between them`
	case !ok:
		return "", "", `field without "="`
	case name == "id" && value == "":
		return "", "", "empty id"
	case !isFieldName(name):
		return "", "", "bad name of a field"
	case value == "":
		return "", "", "field without a value"
	case !isRecordValue(value):
		return "", "", "character that is not allowed in a value"
	}
	return name, value, ""
}

// isRecordValue checks the characters of a value: RFC 8461, section 3.1,
// sts-ext-value. The semicolon, which is not allowed either, has ended it.
func isRecordValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '=' {
			return false
		}
	}
	return true
}

// isFieldName checks the name of a field, in the record and in the policy
// file: RFC 8461, sections 3.1 and 3.2, sts-ext-name and sts-policy-ext-name.
func isFieldName(s string) bool {
	if s == "" || len(s) > maxRecordWord || !isAlphanumeric(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// isID checks an id: RFC 8461, section 3.1, 1*32(ALPHA / DIGIT).
func isID(s string) bool {
	if s == "" || len(s) > maxRecordWord {
		return false
	}
	for i := range len(s) {
		if !isAlphanumeric(s[i]) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
