package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Fault is one thing that is wrong with a configuration file.
type Fault struct {
	// File is the name of the file. Line and Column count from 1, columns in
	// characters.
	File         string
	Line, Column int
	// Text is what is written there, shortened, without passwords; it may be
	// empty.
	Text string
	// Reason says what is wrong with it; it is never empty.
	Reason string
	// Suggestion is what to write instead; empty if nothing is near.
	Suggestion string
}

// Error returns the fault on one line.
func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Text != "" {
		fmt.Fprintf(&b, "%q: ", f.Text)
	}
	b.WriteString(f.Reason)
	if f.Suggestion != "" {
		fmt.Fprintf(&b, "; did you mean %s?", f.Suggestion)
	}
	return b.String()
}

// Faults is the error of a file with something wrong in it: at least one fault,
// sorted by position.
type Faults []*Fault

// Error returns the faults, one on each line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each fault as an error.
func (fs Faults) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}

// maxFaults is the most that is reported of one file.
const maxFaults = 100

// maxQuoted is the most characters of the file that a fault quotes.
const maxQuoted = 80

// position is a place in the file, counted from 1.
type position struct{ line, column int }

// report collects the faults of one file.
type report struct {
	file   string
	faults Faults
}

func (r *report) add(at position, text, reason, suggestion string) {
	r.faults = append(r.faults, &Fault{
		File: r.file, Line: max(at.line, 1), Column: max(at.column, 1),
		Text: shorten(withoutPassword(text)), Reason: reason, Suggestion: suggestion,
	})
}

// err returns what was collected as an error, or nil.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b *Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if n := len(r.faults); n > maxFaults {
		r.faults = r.faults[:maxFaults]
		r.faults[maxFaults-1].Text, r.faults[maxFaults-1].Suggestion = "", ""
		r.faults[maxFaults-1].Reason = fmt.Sprintf("%d more errors from here on", n-maxFaults+1)
	}
	return r.faults
}

func shorten(s string) string {
	if utf8.RuneCountInString(s) <= maxQuoted {
		return s
	}
	return string([]rune(s)[:maxQuoted-1]) + "…"
}

// hidden stands in a quotation for what may be a password.
const hidden = "***"

// withoutPassword hides what may be a password in a piece of the file: the
// value of any key with password in its name, and in a URL what stands before
// the @, or where the @ may have been forgotten.
func withoutPassword(s string) string {
	if i := strings.Index(s, "password"); i >= 0 {
		if key, _, ok := strings.Cut(s[i:], ":"); ok {
			return s[:i] + key + ": " + hidden
		}
	}
	scheme, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		return s
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		return scheme + "://" + hidden + rest[at:]
	}
	authority, _, _ := strings.Cut(rest, "/")
	if slices.ContainsFunc(strings.Split(authority, ","), lacksHost) {
		return scheme + "://" + hidden
	}
	return s
}

// lacksHost reports whether s, which should be host:port, may be user:password.
func lacksHost(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") {
		return false
	}
	return i == 0 || !isDigits(s[i+1:])
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
