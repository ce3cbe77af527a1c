package mtasts

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"tlspolicyd/resolver/policy"
)

// FuzzParsePolicy begins with testdata/policies and testdata/fuzz.
func FuzzParsePolicy(f *testing.F) {
	paths, err := filepath.Glob("testdata/policies/*.txt")
	if err != nil || len(paths) == 0 {
		f.Fatal("no policies to begin with")
	}
	for _, path := range paths {
		f.Add(readFile(f, path))
	}
	f.Fuzz(func(t *testing.T, text string) { checkPolicyText(t, text) })
}

// checkPolicyText checks what holds for every text, policy or not.
func checkPolicyText(t *testing.T, text string) {
	t.Helper()
	p, found := CheckPolicy(text)
	parsed, err := ParsePolicy(text)
	if (parsed == nil) != (p == nil) || (err == nil) != (p != nil) {
		t.Fatalf("%q: CheckPolicy says %v, ParsePolicy %v, %v", text, p, parsed, err)
	}
	refused := slices.ContainsFunc(found, func(f Finding) bool { return f.Severity == SeverityError })
	if refused != (p == nil) {
		t.Fatalf("%q: policy %v, findings %v", text, p, found)
	}
	checkFindings(t, text, found)
	if err != nil {
		checkLine(t, err.Error())
	}
	if p != nil {
		checkPolicy(t, text, p)
	}
	if inGrammar(found) != grammatical(text) && !leavesOut(found) {
		t.Fatalf("%q: by the grammar %t, findings %v", text, grammatical(text), found)
	}
	checkLineEnds(t, text, p, found)
}

func checkPolicy(t *testing.T, text string, p *policy.STSPolicy) {
	t.Helper()
	switch p.Mode {
	case policy.ModeNone:
	case policy.ModeTesting, policy.ModeEnforce:
		if len(p.MX) == 0 {
			t.Fatalf("%q: mode %s without mx", text, p.Mode)
		}
	default:
		t.Fatalf("%q: %s", text, p.Mode)
	}
	if p.MaxAge < 0 || p.MaxAge > 31557600*time.Second || p.MaxAge%time.Second != 0 {
		t.Fatalf("%q: max_age %s", text, p.MaxAge)
	}
	if p.Text != text || len(text) > 64<<10 {
		t.Fatalf("%q: the text is %q", text, p.Text)
	}
	seen := make(map[policy.MXPattern]bool)
	for _, mx := range p.MX {
		again, err := policy.ParseMXPattern(mx.String())
		if err != nil || again != mx || seen[mx] || !strings.Contains(strings.ToLower(text), mx.String()) {
			t.Fatalf("%q: mx %q: %v", text, mx, err)
		}
		seen[mx] = true
	}
}

func checkFindings(t *testing.T, text string, found []Finding) {
	t.Helper()
	if most := severities*(maxFindings+1) + 4; len(found) > most {
		t.Fatalf("%q: %d findings, want at most %d", text, len(found), most)
	}
	lines := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
	previous := 0
	for _, f := range found {
		checkLine(t, f.String())
		if f.Reason == "" || len(f.Suggestion) > 300 || strings.ContainsFunc(f.Suggestion, notASCII) {
			t.Fatalf("%q: finding %+v", text, f)
		}
		if f.Line == 0 {
			previous = len(lines)
			continue
		}
		if f.Line < previous || f.Line > len(lines) || f.Column < 1 || f.Column > len(lines[f.Line-1])+1 {
			t.Fatalf("%q: finding %+v after one on line %d", text, f, previous)
		}
		previous = f.Line
	}
}

func notASCII(c rune) bool { return c > unicode.MaxASCII || !unicode.IsPrint(c) }

// checkLineEnds checks that LF and CRLF make no difference.
func checkLineEnds(t *testing.T, text string, p *policy.STSPolicy, found []Finding) {
	t.Helper()
	crlf := strings.ReplaceAll(text, "\n", "\r\n")
	if strings.Contains(text, "\r") || len(crlf) > maxPolicySize {
		return
	}
	q, foundToo := CheckPolicy(crlf)
	if !slices.Equal(found, foundToo) {
		t.Fatalf("%q: findings %v, with CRLF %v", text, found, foundToo)
	}
	if p != nil && (p.Mode != q.Mode || p.MaxAge != q.MaxAge || !slices.Equal(p.MX, q.MX)) {
		t.Fatalf("%q: %v, with CRLF %v", text, p, q)
	}
}

// inGrammar reports whether nothing was found but notes.
func inGrammar(found []Finding) bool {
	return !slices.ContainsFunc(found, func(f Finding) bool { return f.Severity != SeverityNote })
}

// leavesOut reports whether an mx was left out that the grammar allows.
func leavesOut(found []Finding) bool {
	return slices.ContainsFunc(found, func(f Finding) bool {
		return f.Severity == SeverityLenient && strings.Contains(f.Reason, "left out")
	})
}

// The grammar of RFC 8461, section 3.2, said in another way, with the
// definition of Domain in RFC 5321, section 4.1.2.
var (
	lineGrammar = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*([^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*$`)
	mxGrammar   = regexp.MustCompile(`^(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	longLabel   = regexp.MustCompile(`[^.]{64}`)
	ageGrammar  = regexp.MustCompile(`^[0-9]{1,10}$`)
)

// grammatical reports whether text is a policy by the grammar, with the limits
// that RFC 8461 and the DNS put on its values.
func grammatical(text string) bool {
	if len(text) > 64<<10 || strings.ToValidUTF8(text, "") != text {
		return false
	}
	values := make(map[string]string)
	for line := range strings.Lines(text) {
		if whole, ended := strings.CutSuffix(line, "\n"); ended {
			line = strings.TrimSuffix(whole, "\r")
		}
		m := lineGrammar.FindStringSubmatch(line)
		if m == nil {
			return false
		}
		key, value := m[1], m[2]
		name := strings.TrimPrefix(value, "*.")
		if key == "mx" && (!mxGrammar.MatchString(value) || longLabel.MatchString(name) || len(name) > 253) {
			return false
		}
		if _, there := values[key]; !there {
			values[key] = value
		}
	}
	_, mx := values["mx"]
	mode := values["mode"]
	return values["version"] == "STSv1" &&
		(mode == "none" || (mode == "testing" || mode == "enforce") && mx) &&
		ageGrammar.MatchString(values["max_age"]) &&
		atMost(values["max_age"], "31557600")
}

// atMost compares numbers written in digits.
func atMost(n, most string) bool {
	n = strings.TrimLeft(n, "0")
	return len(n) < len(most) || len(n) == len(most) && n <= most
}
