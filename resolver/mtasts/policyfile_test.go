package mtasts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// TestPolicies reads every file in testdata/policies, each a way in which
// people write or miswrite a policy. Beside NAME.txt stands NAME.want: what is
// made of it, then all findings, with what is suggested below each.
func TestPolicies(t *testing.T) {
	paths, err := filepath.Glob("testdata/policies/*.txt")
	if err != nil || len(paths) < 79 {
		t.Fatalf("%d policies, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text := readFile(t, path)
			got := describe(CheckPolicy(text))
			want := readFile(t, strings.TrimSuffix(path, ".txt")+".want")
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			checkPolicyText(t, text)
		})
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func describe(p *policy.STSPolicy, found []Finding) string {
	var b strings.Builder
	if p == nil {
		b.WriteString("refused\n")
	} else {
		fmt.Fprintf(&b, "%s for %d s\n", p.Mode, int64(p.MaxAge/time.Second))
		for _, mx := range p.MX {
			fmt.Fprintf(&b, "\t%s\n", mx)
		}
	}
	for _, f := range found {
		fmt.Fprintf(&b, "%s: %s\n", f.Severity, f)
		if f.Suggestion != "" {
			fmt.Fprintf(&b, "\t%s\n", f.Suggestion)
		}
	}
	return b.String()
}

const example = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmax_age: 86400\n"

// with returns the example with something else in place of one of its lines.
func with(line, replacement string) string {
	return strings.Replace(example, line+"\n", replacement, 1)
}

func TestParsePolicyAccepts(t *testing.T) {
	const mail = "mail.example.com"
	for _, test := range []struct {
		name, text string
		mode       policy.Mode
		maxAge     int64
		mx         string
	}{
		{"LF", example, policy.ModeEnforce, 86400, mail},
		{"CRLF", strings.ReplaceAll(example, "\n", "\r\n"), policy.ModeEnforce, 86400, mail},
		{"LF and CRLF", with("mode: enforce", "mode: enforce\r\n"), policy.ModeEnforce, 86400, mail},
		{"no final line end", strings.TrimSuffix(example, "\n"), policy.ModeEnforce, 86400, mail},
		{"white space at the end of a line", with("mode: enforce", "mode: enforce  \t\n"), policy.ModeEnforce, 86400, mail},
		{"white space at the end of the file", with("max_age: 86400", "max_age: 86400 \t"), policy.ModeEnforce, 86400, mail},
		{"nothing after the colon", with("mode: enforce", "mode:enforce\n"), policy.ModeEnforce, 86400, mail},
		{"tab after the colon", with("mode: enforce", "mode:\tenforce\n"), policy.ModeEnforce, 86400, mail},
		{"version last", with("version: STSv1", "") + "version: STSv1\n", policy.ModeEnforce, 86400, mail},
		{"none without mx", "version: STSv1\nmode: none\nmax_age: 86400\n", policy.ModeNone, 86400, ""},
		{"none with mx", with("mode: enforce", "mode: none\n"), policy.ModeNone, 86400, mail},
		{"testing", with("mode: enforce", "mode: testing\n"), policy.ModeTesting, 86400, mail},
		{"max_age 0", with("max_age: 86400", "max_age: 0\n"), policy.ModeEnforce, 0, mail},
		{"max_age 1", with("max_age: 86400", "max_age: 1\n"), policy.ModeEnforce, 1, mail},
		{"max_age at the limit", with("max_age: 86400", "max_age: 31557600\n"), policy.ModeEnforce, 31557600, mail},
		{"max_age above the limit", with("max_age: 86400", "max_age: 31557601\n"), policy.ModeEnforce, 31557600, mail},
		{"max_age of 32 bits and one", with("max_age: 86400", "max_age: 4294967297\n"), policy.ModeEnforce, 31557600, mail},
		{"max_age of ten digits", with("max_age: 86400", "max_age: 9999999999\n"), policy.ModeEnforce, 31557600, mail},
		{"max_age with zeros before it", with("max_age: 86400", "max_age: 0000086400\n"), policy.ModeEnforce, 86400, mail},
		{"mode twice", with("mode: enforce", "mode: testing\nmode: enforce\n"), policy.ModeTesting, 86400, mail},
		{"mode twice, the second is none", with("mode: enforce", "mode: enforce\nmode: !\n"), policy.ModeEnforce, 86400, mail},
		{"max_age twice, the second is no number", with("max_age: 86400", "max_age: 7\nmax_age: -1\n"), policy.ModeEnforce, 7, mail},
		{"version twice, the second is unknown", example + "version: STSv2\n", policy.ModeEnforce, 86400, mail},
		{"several mx in their order", example + "mx: b.example\nmx: *.a.example\n", policy.ModeEnforce, 86400, mail + " b.example *.a.example"},
		{"mx twice", example + "mx: b.example\nmx: MAIL.Example.COM\n", policy.ModeEnforce, 86400, mail + " b.example"},
		{"mx in A-labels", with("mx: "+mail, "mx: xn--mnchen-3ya.example\n"), policy.ModeEnforce, 86400, "xn--mnchen-3ya.example"},
		{"mx that names no host", example + "mx: hostname\nmx: 192.0.2.1\n", policy.ModeEnforce, 86400, mail},
		{"mx that names no host, none", "version: STSv1\nmode: none\nmx: mail\nmax_age: 1\n", policy.ModeNone, 1, ""},
		{"final dot of an mx", with("mx: "+mail, "mx: mail.example.com.\n"), policy.ModeEnforce, 86400, mail},
		{"final dot of a wildcard", with("mx: "+mail, "mx: *.example.com.\n"), policy.ModeEnforce, 86400, "*.example.com"},
		{"extension in UTF-8", example + "x-note: h\u00e4llo w\u00f6rld\n", policy.ModeEnforce, 86400, mail},
		{"extension with a colon", example + "A.b_c-9: http://a.example/{x}\n", policy.ModeEnforce, 86400, mail},
		{"extension with the longest name", example + word32 + ": x\n", policy.ModeEnforce, 86400, mail},
		{"key in capitals beside the right one", with("mode: enforce", "Mode: testing\nmode: enforce\n"), policy.ModeEnforce, 86400, mail},
		{"byte order mark", "\ufeff" + example, policy.ModeEnforce, 86400, mail},
		{"blank lines", "\n" + with("mode: enforce", "\r\nmode: enforce\n \t\n") + "\n\n", policy.ModeEnforce, 86400, mail},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := ParsePolicy(test.text)
			if err != nil {
				t.Fatal(err)
			}
			var mx []string
			for _, pattern := range p.MX {
				mx = append(mx, pattern.String())
			}
			if p.Mode != test.mode || p.MaxAge != time.Duration(test.maxAge)*time.Second || strings.Join(mx, " ") != test.mx {
				t.Errorf("got %s, %s, %q", p.Mode, p.MaxAge, mx)
			}
			if p.Text != test.text {
				t.Errorf("the text is %q", p.Text)
			}
		})
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	mx := func(value string) string { return with("mx: mail.example.com", "mx: "+value+"\n") }
	maxAge := func(value string) string { return with("max_age: 86400", "max_age: "+value+"\n") }
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "the file is empty"},
		{"a mark and nothing else", "\ufeff", "the file is empty"},
		{"no version", with("version: STSv1", ""), "version: there is no such line, and a policy needs it"},
		{"no mode", with("mode: enforce", ""), "mode: there is no such line, and a policy needs it"},
		{"no max_age", with("max_age: 86400", ""), "max_age: there is no such line, and a policy needs it"},
		{"no mx, enforce", with("mx: mail.example.com", ""), "mx: there is no such line, and a policy needs it"},
		{"version of another kind", with("version: STSv1", "version: STSv2\n"), `line 1, column 10: version "STSv2": must be STSv1, in exactly these letters`},
		{"version in small letters", with("version: STSv1", "version: stsv1\n"), `line 1, column 10: version "stsv1": must be STSv1, in exactly these letters`},
		{"key in capitals", with("mode: enforce", "Mode: enforce\n"), "mode: there is no such line, and a policy needs it"},
		{"mode in capitals", with("mode: enforce", "mode: Enforce\n"), `line 2, column 7: mode "Enforce": must be enforce, testing or none, in lower case and with nothing after it`},
		{"mode of a draft", with("mode: enforce", "mode: report\n"), `line 2, column 7: mode "report": must be enforce, testing or none, in lower case and with nothing after it`},
		{"mode without value", with("mode: enforce", "mode: \n"), "line 2, column 7: mode: there is no value after the colon"},
		{"first mode wrong, second right", with("mode: enforce", "mode: x\nmode: enforce\n"), `line 2, column 7: mode "x": must be enforce, testing or none, in lower case and with nothing after it`},
		{"second mode without value", with("mode: enforce", "mode: enforce\nmode:\n"), "line 3, column 6: mode: there is no value after the colon"},
		{"white space before the key", with("mode: enforce", " mode: enforce\n"), "line 2, column 1: mode: white space before the key"},
		{"white space before the colon", with("mode: enforce", "mode : enforce\n"), "line 2, column 5: mode: white space between the key and the colon"},
		{"max_age of 11 digits", maxAge("00000086400"), `line 4, column 10: max_age "00000086400": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age negative", maxAge("-1"), `line 4, column 10: max_age "-1": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age with a plus", maxAge("+1"), `line 4, column 10: max_age "+1": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age with an exponent", maxAge("1e5"), `line 4, column 10: max_age "1e5": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age with a unit", maxAge("86400s"), `line 4, column 10: max_age "86400s": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age in days", maxAge("1 day"), `line 4, column 10: max_age "1 day": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age in other digits", maxAge("\u0661"), `line 4, column 10: max_age "١": must be a number of seconds, 1 to 10 digits and nothing else`},
		{"max_age empty", maxAge(""), "line 4, column 10: max_age: there is no value after the colon"},
		{"key with a blank", example + "foo bar: x\n", `line 5, column 1: "foo bar: x": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"key that begins with an underscore", example + "_x: y\n", `line 5, column 1: "_x: y": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"key of 33 characters", example + word33 + ": x\n", `line 5, column 1: "` + word33 + `: x": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"no key", example + ": x\n", `line 5, column 1: ": x": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"no colon", example + "foo\n", `line 5, column 1: "foo": there is no colon, so this is no "key: value"`},
		{"extension without value", example + "foo:\n", `line 5, column 5: "foo": there is no value after the colon`},
		{"tab in an extension", example + "foo: a\tb\n", `line 5, column 7: "a\tb": control character U+0009 in a value`},
		{"NUL", example + "foo: \x00\n", `line 5, column 6: "\x00": control character U+0000 in a value`},
		{"ESC in the second mode", example + "mode: \x1b\n", `line 5, column 7: mode "\x1b": control character U+001B in a value`},
		{"DEL", example + "foo: \u00e4\x7f\n", `line 5, column 7: "ä\x7f": control character U+007F in a value`},
		{"no UTF-8", example + "foo: \u00e4\xe4\n", `line 5, column 7: "ä\xe4": bytes that are no UTF-8`},
		{"CR between lines", strings.ReplaceAll(example, "\n", "\r"), `line 1, column 15: version "STSv1\rmode: enforce\rmx: mail.example.com\rmax_age: 86400\r": control character U+000D in a value`},
		{"CR at the end of the file", with("max_age: 86400", "max_age: 86400\r"), `line 4, column 15: max_age "86400\r": control character U+000D in a value`},
		{"CR CR LF", with("mode: enforce", "mode: enforce\r\r\n"), `line 2, column 14: mode "enforce\r": control character U+000D in a value`},
		{"CR alone on a line", example + "\r\r\n", `line 5, column 1: "\r": there is no colon, so this is no "key: value"`},
		{"two marks", "\ufeff\ufeff" + example, `line 1, column 1: "\ufeffversion: STSv1": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"mark on the second line", with("mode: enforce", "\ufeffmode: enforce\n"), `line 2, column 1: "\ufeffmode: enforce": a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores`},
		{"wildcard alone", mx("*"), `line 3, column 5: mx "*": a wildcard stands for the whole first label of a name and for nothing else`},
		{"wildcard and a dot", mx("*."), `line 3, column 5: mx "*.": not the name of a mail host, nor a domain with *. before it`},
		{"wildcard without dot", mx("*example.com"), `line 3, column 5: mx "*example.com": a wildcard stands for the whole first label of a name and for nothing else`},
		{"suffix of a draft", mx(".example.com"), `line 3, column 5: mx ".example.com": not the name of a mail host, nor a domain with *. before it`},
		{"wildcard in the middle", mx("mail.*.example.com"), `line 3, column 5: mx "mail.*.example.com": a wildcard stands for the whole first label of a name and for nothing else`},
		{"two wildcards", mx("*.*.example.com"), `line 3, column 5: mx "*.*.example.com": a wildcard stands for the whole first label of a name and for nothing else`},
		{"two dots at the end", mx("mail.example.com.."), `line 3, column 5: mx "mail.example.com..": not the name of a mail host, nor a domain with *. before it`},
		{"underscore", mx("mail_1.example.com"), `line 3, column 5: mx "mail_1.example.com": the name of a mail host has no underscore in it`},
		{"address literal", mx("[192.0.2.1]"), `line 3, column 5: mx "[192.0.2.1]": this is an address, not the name of a mail host`},
		{"IPv6 address", mx("2001:db8::1"), `line 3, column 5: mx "2001:db8::1": a mail host has a name, no port and no address here`},
		{"port", mx("mail.example.com:25"), `line 3, column 5: mx "mail.example.com:25": a mail host has a name, no port and no address here`},
		{"two hosts", mx("a.example b.example"), `line 3, column 5: mx "a.example b.example": each mail host has a line of its own, with its name and nothing else`},
		{"two hosts with a comma", mx("a.example,b.example"), `line 3, column 5: mx "a.example,b.example": each mail host has a line of its own, with its name and nothing else`},
		{"U-label", mx("m\u00fcnchen.example"), `line 3, column 5: mx "münchen.example": a name that is not in ASCII is written in its encoded form (xn--...)`},
		{"label of 64 letters", mx(word32 + word32 + ".example"), `line 3, column 5: mx "` + word32 + word32 + `.example": not the name of a mail host, nor a domain with *. before it`},
		{"mx outside of the grammar beside a good one", example + "mx: a_b.example\n", `line 5, column 5: mx "a_b.example": the name of a mail host has no underscore in it`},
		{"mx outside of the grammar, none", with("mode: enforce", "mode: none\nmx: a_b.example\n"), `line 3, column 5: mx "a_b.example": the name of a mail host has no underscore in it`},
		{"no mx that names a host", mx("mail"), "mx: no line is left that names a mail host"},
		{"web page", "<html>\n", "the file looks like a web page"},
		{"too large", example + "x: " + strings.Repeat("x", maxPolicySize), "the file has 65604 bytes; mail servers need not read more than 65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := ParsePolicy(test.text)
			var refused *PolicyError
			if p != nil || !errors.As(err, &refused) {
				t.Fatalf("got %v, %v; want a PolicyError", p, err)
			}
			if got := err.Error(); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestParsePolicySizeLimit(t *testing.T) {
	text := example + "x: "
	text += strings.Repeat("x", maxPolicySize-len(text))
	if _, err := ParsePolicy(text); err != nil {
		t.Errorf("%d bytes: %v", len(text), err)
	}
	if _, err := ParsePolicy(text + "x"); err == nil {
		t.Errorf("%d bytes are accepted", len(text)+1)
	}
}

func TestPolicyErrorHoldsEveryProblem(t *testing.T) {
	_, err := ParsePolicy("version: STSv2\nmode: Testing\nx-note: fine\nmx: a_b.example\nmax_age: 1h\n")
	var refused *PolicyError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	got := []string{refused.Key}
	for _, other := range refused.Unwrap() {
		var problem *PolicyError
		if !errors.As(other, &problem) {
			t.Fatal(other)
		}
		got = append(got, problem.Key)
	}
	if want := []string{keyVersion, keyMode, keyMX, keyMaxAge}; !slices.Equal(got, want) {
		t.Errorf("problems with %q, want %q", got, want)
	}
	if refused.Line != 1 || refused.Column != 10 || refused.Text != "STSv2" {
		t.Errorf("the first is %+v", refused.Finding)
	}
}

// Policies are kept by the million: nothing that was needed to read one may
// live as long.
func TestPolicyIsAllThatIsKept(t *testing.T) {
	const (
		n    = 1000
		most = 200 // the policy, and the patterns of its two hosts
		text = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: *.example.net\nmax_age: 604800\n"
	)
	kept := make([]*policy.STSPolicy, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		p, err := ParsePolicy(text)
		if err != nil {
			t.Fatal(err)
		}
		kept[i] = p
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > most {
		t.Errorf("a policy takes %d bytes beside its text, want at most %d", each, most)
	}
	runtime.KeepAlive(kept)
}
