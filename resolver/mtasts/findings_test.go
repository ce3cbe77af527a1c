package mtasts

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFindingsAreBounded(t *testing.T) {
	const head = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
	for _, test := range []struct {
		name, line string
		severity   Severity
	}{
		{"errors", "!\n", SeverityError},
		{"hosts that are none", "mx: !\n", SeverityError},
		{"leniencies", "\n", SeverityLenient},
		{"notes", "nmx: x\n", SeverityNote},
		{"many words", "mx: " + strings.Repeat("a ", 1000) + "\n", SeverityError},
		{"long labels outside of ASCII", "mx: " + strings.Repeat("\u00fc", 140) + ".example\n", SeverityError},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := (maxPolicySize - len(head)) / len(test.line)
			p, found := CheckPolicy(head + strings.Repeat(test.line, n))
			if (p == nil) != (test.severity == SeverityError) {
				t.Errorf("policy %v", p)
			}
			if n <= maxFindings {
				if len(found) != n {
					t.Errorf("%d findings, want %d", len(found), n)
				}
				return
			}
			if len(found) != maxFindings+1 {
				t.Fatalf("%d findings, want %d and a last word", len(found), maxFindings)
			}
			last := found[maxFindings]
			want := fmt.Sprintf("there are %d more like these, which are not shown", n-maxFindings)
			if last.Severity != test.severity || last.Reason != want {
				t.Errorf("the last is %s: %s; want %s: %s", last.Severity, last, test.severity, want)
			}
		})
	}
}

// An error that comes after many lesser findings must not be lost: the policy
// would be taken.
func TestFindingsKeepErrorsApart(t *testing.T) {
	text := "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
	text += strings.Repeat("\nnmx: x\n", 10*maxFindings) + "mx: a_b.example\n"
	p, found := CheckPolicy(text)
	if p != nil {
		t.Fatal("accepted")
	}
	for _, f := range found {
		if f.Severity == SeverityError && f.Text == "a_b.example" {
			return
		}
	}
	t.Errorf("no error among %d findings", len(found))
}

func TestSeverityString(t *testing.T) {
	for s, want := range map[Severity]string{
		SeverityError: "error", SeverityLenient: "lenient", SeverityNote: "note", 9: "severity(9)",
	} {
		if got := s.String(); got != want {
			t.Errorf("Severity(%d) = %q, want %q", uint8(s), got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, text := range []string{
		"", "short",
		strings.Repeat("x", maxText), strings.Repeat("x", maxText+1),
		strings.Repeat("\u00fc", maxText), "x" + strings.Repeat("\u00fc", maxText),
		"xx" + strings.Repeat("\U0001f4e7", maxText), strings.Repeat("\x80", 2*maxText),
	} {
		got := clip(text)
		if len(text) <= maxText {
			if got != text {
				t.Errorf("clip(%q) = %q", text, got)
			}
			continue
		}
		kept, cut := strings.CutSuffix(got, "...")
		if !cut || !strings.HasPrefix(text, kept) || len(got) > maxText || len(got) < maxText-utf8.UTFMax {
			t.Errorf("clip(%q) = %q", text, got)
		}
		if utf8.ValidString(text) && !utf8.ValidString(got) {
			t.Errorf("clip(%q) = %q, which is cut within a character", text, got)
		}
	}
}

func TestResembles(t *testing.T) {
	for _, test := range []struct{ key, want string }{
		{"nmx", keyMX}, {"MX", keyMX}, {"mxs", keyMX}, {"m", keyMX}, {"ms", keyMX}, {"mx1", keyMX}, {"mx-host", keyMX},
		{"Mode", keyMode}, {"mod", keyMode}, {"modes", keyMode},
		{"max-age", keyMaxAge}, {"maxage", keyMaxAge}, {"max.age", keyMaxAge}, {"Max_Age", keyMaxAge}, {"max_agee", keyMaxAge},
		{"Version", keyVersion}, {"verson", keyVersion}, {"eversion", keyVersion},
		{"", ""}, {"x-note", ""}, {"policy", ""}, {"age", ""}, {"host", ""}, {"_x", ""}, {"mx ", ""}, {"permalink", ""},
		{"mx" + strings.Repeat("x", 64<<10), ""},
	} {
		if got := resembles(test.key); got != test.want {
			t.Errorf("resembles(%.40q) = %q, want %q", test.key, got, test.want)
		}
	}
}

func TestSuggestionsForAnMX(t *testing.T) {
	const none = "write the full name of the mail host, as in: mx: mail.example.com"
	for _, test := range []struct{ value, want string }{
		{"10 MX.example.com", "mx: mx.example.com"},
		{"Priority 5: mx.example.com", "mx: mx.example.com"},
		{"mx.a.example, mx.b.example", "mx: mx.a.example and a line of its own for each of the others"},
		{"mx.example.com # the first", "mx: mx.example.com"},
		{"# mx.example.com", none},
		{"https://mx.example.com:443/x", "mx: mx.example.com"},
		{"mx.example.com:25", "mx: mx.example.com"},
		{`"mx.example.com"`, "mx: mx.example.com"},
		{`<mx.example.com>;`, "mx: mx.example.com"},
		{`mx.example.com\`, "mx: mx.example.com"},
		{"*example.com", "mx: *.example.com"},
		{".example.com", "mx: *.example.com"},
		{"m\u00fchle.example", "mx: xn--mhle-0ra.example"},
		{"*.m\u00fchle.example", "mx: *.xn--mhle-0ra.example"},
		{"mail_1.example.com", none},
		{"[192.0.2.1]", none},
		{"*", none},
		{"<your host>", none},
		{strings.Repeat("x ", 16) + "mx.example.com", none},
		{strings.Repeat("x", 300) + "://mx.example.com", none},
	} {
		if _, got := adviseMX(test.value); got != test.want {
			t.Errorf("adviseMX(%q) suggests %q, want %q", test.value, got, test.want)
		}
	}
}

func TestSuggestionsForOtherKeys(t *testing.T) {
	for _, test := range []struct{ key, value, want string }{
		{keyVersion, "2", "version: STSv1"},
		{keyMode, "Enforce", "mode: enforce"},
		{keyMode, "enforced", "mode: enforce"},
		{keyMode, "[none]", "mode: none"},
		{keyMode, "[enforce|testing|none]", "mode: testing"},
		{keyMode, "enforce|none", "mode: testing"},
		{keyMode, "on", "mode: testing"},
		{keyMaxAge, "604,800", "max_age: 604800"},
		{keyMaxAge, "86400 # a day", "max_age: 86400"},
		{keyMaxAge, "86400s", "max_age: 86400"},
		{keyMaxAge, "-1", "max_age: 604800"},
		{keyMaxAge, "1 day", "max_age: 604800"},
		{keyMaxAge, "00000000000", "max_age: 604800"},
		{keyMaxAge, "", "max_age: 604800"},
		{keyMX, "", "mx: mail.example.com"},
		{keyMX, `["mx.example.net"],`, "mx: mx.example.net"},
	} {
		if got := adviseField(test.key, test.value); got != test.want {
			t.Errorf("adviseField(%q, %q) = %q, want %q", test.key, test.value, got, test.want)
		}
	}
}
