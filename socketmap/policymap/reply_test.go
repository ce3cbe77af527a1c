package policymap_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
	"tlspolicyd/socketmap/policymap/postfixsyntax"
)

func domain(t testing.TB, s string) policy.Domain {
	t.Helper()
	d, err := policy.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// enforce is the verdict for a policy file, of which it takes the mx lines
// that name hosts.
func enforce(t testing.TB, name, text string) policy.Verdict {
	t.Helper()
	p := &policy.STSPolicy{Mode: policy.ModeEnforce, Text: text}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "mx:"); ok {
			if pattern, err := policy.ParseMXPattern(strings.TrimSpace(value)); err == nil && !slices.Contains(p.MX, pattern) {
				p.MX = append(p.MX, pattern)
			}
		}
	}
	return policy.Verdict{Kind: policy.Secure, Domain: domain(t, name), Policy: p, Reason: "the domain enforces MTA-STS"}
}

func mapNamed(t testing.TB, name string) policymap.Map {
	t.Helper()
	m, ok := policymap.FindMap(name)
	if !ok {
		t.Fatalf("no map %q", name)
	}
	return m
}

func TestRender(t *testing.T) {
	const file = "version: STSv1\r\nmode: enforce\r\nmx: MX1.example.com\r\nmx: *.Example.NET.\r\nmx: mx1.example.com\r\nmax_age: 604800\r\n"
	tests := []struct {
		name      string
		v         policy.Verdict
		plain     string
		forReport string // the same as plain if empty
	}{
		{"not found", policy.Verdict{Kind: policy.NotFound}, "NOTFOUND ", ""},
		{"dane", policy.Verdict{Kind: policy.DANEWhereFound}, "OK dane", ""},
		{"dane-only", policy.Verdict{Kind: policy.DANEOnly}, "OK dane-only", ""},
		{"secure", enforce(t, "example.com", file),
			"OK secure match=mx1.example.com:.example.net servername=hostname",
			"OK secure match=mx1.example.com:.example.net servername=hostname policy_type=sts policy_domain=example.com" +
				" mx_host_pattern=mx1.example.com mx_host_pattern=*.example.net" +
				" { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = mx: MX1.example.com }" +
				" { policy_string = mx: *.Example.NET. } { policy_string = mx: mx1.example.com } { policy_string = max_age: 604800 }"},
		{"names that are words to Postfix", enforce(t, "example.com", "mx: hostname\nmx: nexthop\nmx: dot-nexthop\nmx: mx.example.com"),
			"OK secure match=mx.example.com servername=hostname",
			"OK secure match=mx.example.com servername=hostname policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com" +
				" { policy_string = mx: hostname } { policy_string = mx: nexthop } { policy_string = mx: dot-nexthop } { policy_string = mx: mx.example.com }"},
		{"no pattern", enforce(t, "example.com", "nmx: mx.example.com"), "TEMP the policy names no MX host", ""},
		{"no policy", policy.Verdict{Kind: policy.Secure}, "TEMP the policy names no MX host", ""},
		{"temp", policy.Verdict{Kind: policy.Temp, Reason: "the MX lookup failed", Detail: "SERVFAIL"}, "TEMP the MX lookup failed: SERVFAIL", ""},
		{"temp without detail", policy.Verdict{Kind: policy.Temp, Reason: "the MX lookup failed"}, "TEMP the MX lookup failed", ""},
		{"zero verdict", policy.Verdict{}, "TEMP it cannot be known now", ""},
		{"unknown kind", policy.Verdict{Kind: 99}, "TEMP it cannot be known now", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.forReport == "" {
				tt.forReport = tt.plain
			}
			for name, want := range map[string]string{
				"policy": tt.plain, "policy-dane": tt.plain, "postfix": tt.plain,
				"policy-tlsrpt": tt.forReport, "policy-dane-tlsrpt": tt.forReport,
			} {
				if got := policymap.Render(tt.v, mapNamed(t, name)).String(); got != want {
					t.Errorf("%s:\n got %q\nwant %q", name, got, want)
				}
			}
		})
	}
}

// What a line may hold, and what Postfix reads of it.
func TestPolicyStrings(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"unknown key", "x-note: a, b = c; d", "x-note: a, b = c; d"},
		{"beyond ASCII", "x-note: hällo wörld", "x-note: hällo wörld"},
		{"equals sign at first", "= a", "= a"},
		{"equals sign alone", "=", "="},
		{"looks like an attribute", "match=evil.example policy_type=sts", "match=evil.example policy_type=sts"},
		{"commas at the ends", ",a,", ",a,"},
		{"backslash", `a\}b`, ""},
		{"backslash at the end", `a\`, `a\`},
		{"dollar", "${smtp_tls_CAfile}", ""},
		{"quotes", `"a" 'b'`, `"a" 'b'`},
		{"blanks at the ends", "  mode: enforce  ", "mode: enforce"},
		{"empty", "", ""},
		{"blanks", "   ", ""},
		{"opening brace", "a { b", ""},
		{"closing brace", "a } tafile=/etc/passwd", ""},
		{"both braces", "a {} b", ""},
		{"braces alone", "}{", ""},
		{"tab", "mode:\tenforce", ""},
		{"NUL", "a\x00b", ""},
		{"ESC", "a\x1b[0mb", ""},
		{"DEL", "a\x7fb", ""},
		{"carriage return inside", "a\rb", ""},
		{"carriage returns at the end", "a\r\r", ""},
		{"vertical tab", "\v", ""},
		{"C1 control", "a\u0085b", ""},
		{"invalid UTF-8", "a\xffb", ""},
		{"half a rune", "a\xc3", ""},
		{"surrogate", "a\xed\xa0\x80b", ""},
		{"no-break space", "\u00a0", "\u00a0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, end := range []string{"\n", "\r\n"} {
				v := enforce(t, "example.com", "mx: mx.example.com"+end+tt.line+end+end+"last: line")
				got := parse(t, policymap.Render(v, mapNamed(t, "policy-tlsrpt")), postfixsyntax.Postfix310)
				want := []string{"mx: mx.example.com", tt.want, "last: line"}
				if tt.want == "" {
					want = slices.Delete(want, 1, 2)
				}
				if !slices.Equal(got.PolicyStrings, want) {
					t.Errorf("got %q, want %q", got.PolicyStrings, want)
				}
			}
		})
	}
}

func TestByteOrderMark(t *testing.T) {
	v := enforce(t, "example.com", "\ufeffversion: STSv1\nmx: mx.example.com\n")
	got := parse(t, policymap.Render(v, mapNamed(t, "policy-tlsrpt")), postfixsyntax.Postfix310)
	if want := []string{"version: STSv1", "mx: mx.example.com"}; !slices.Equal(got.PolicyStrings, want) {
		t.Errorf("got %q, want %q", got.PolicyStrings, want)
	}
}

// parse reads a reply as Postfix does.
func parse(t *testing.T, r socketmap.Reply, release postfixsyntax.Release) postfixsyntax.Policy {
	t.Helper()
	if r.Status != socketmap.OK || len(r.String()) > socketmap.MaxReply {
		t.Fatalf("reply of %d bytes: %.100s", len(r.String()), r)
	}
	p, err := postfixsyntax.Parse(release, r.Text)
	if err != nil {
		t.Fatalf("Postfix refuses it: %v", err)
	}
	return p
}

// manyHosts is a policy file with n MX hosts of long names and with extra text.
func manyHosts(n int, extra string) string {
	var b strings.Builder
	b.WriteString("version: STSv1\nmode: enforce\nmax_age: 86400\n")
	for i := range n {
		fmt.Fprintf(&b, "mx: host%05d.mail.example.com\n", i)
	}
	b.WriteString(extra)
	return b.String()
}

func TestShortened(t *testing.T) {
	comment := "x-note: " + strings.Repeat("x", 1000) + "\n"
	tests := []struct {
		name, file                         string
		strings, domain, patterns, hasType bool
	}{
		{"short", manyHosts(1, comment), true, true, true, true},
		{"without strings", manyHosts(1200, comment), false, true, true, true},
		{"without a report", manyHosts(2000, comment), false, false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := enforce(t, "example.com", tt.file)
			got := parse(t, policymap.Render(v, mapNamed(t, "policy-tlsrpt")), postfixsyntax.Postfix310)
			if len(got.PolicyStrings) > 0 != tt.strings || got.PolicyDomain != "" != tt.domain ||
				len(got.MXHostPatterns) > 0 != tt.patterns || got.PolicyType != "" != tt.hasType {
				t.Errorf("got %d strings, domain %q, %d patterns, type %q", len(got.PolicyStrings), got.PolicyDomain, len(got.MXHostPatterns), got.PolicyType)
			}
			if len(got.Match) != len(v.Policy.MX) {
				t.Errorf("%d hosts match, want %d", len(got.Match), len(v.Policy.MX))
			}
			plain := parse(t, policymap.Render(v, mapNamed(t, "policy")), postfixsyntax.Postfix34)
			if !slices.Equal(plain.Match, got.Match) {
				t.Error("without TLSRPT other hosts match")
			}
		})
	}
}

// At each step, the reply that just fits is sent as it is, and one that is
// longer is made shorter, by that step only.
func TestShortenedToTheByte(t *testing.T) {
	noise := "x: " + strings.Repeat("x", 40_000) + "\n"
	tests := []struct {
		name string
		// verdict grows with n, and its reply by step bytes each time.
		verdict func(n int) policy.Verdict
		step    int
		left    func(p postfixsyntax.Policy) bool
		// kept is what is left of one that is longer.
		kept func(p postfixsyntax.Policy) bool
	}{
		{"strings", func(n int) policy.Verdict {
			return enforce(t, "example.com", manyHosts(500, "x: "+strings.Repeat("x", 30_000+n)))
		}, 1, func(p postfixsyntax.Policy) bool { return len(p.PolicyStrings) > 0 },
			func(p postfixsyntax.Policy) bool { return p.PolicyDomain != "" }},
		{"domain", func(n int) policy.Verdict {
			return enforce(t, nameOfSize(30+n), manyHosts(1426, noise))
		}, 1, func(p postfixsyntax.Policy) bool { return p.PolicyDomain != "" },
			func(p postfixsyntax.Policy) bool { return p.PolicyType != "" && len(p.MXHostPatterns) == 1426 }},
		{"type and patterns", func(n int) policy.Verdict {
			v := enforce(t, "example.com", manyHosts(1423, noise)+"mx: "+nameOfSize(30+n)+"\nmx: b"+nameOfSize(30+n)+"\n")
			v.Domain = policy.Domain{} // which is left out then, as after the step before
			return v
		}, 4, func(p postfixsyntax.Policy) bool { return p.PolicyType != "" && len(p.MXHostPatterns) == 1425 },
			func(p postfixsyntax.Policy) bool { return len(p.Match) == 1425 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := mapNamed(t, "policy-tlsrpt")
			reply := func(n int) (size int, whole bool) {
				r := policymap.Render(tt.verdict(n), m)
				p := parse(t, r, postfixsyntax.Postfix310)
				if whole = tt.left(p); !whole && !tt.kept(p) {
					t.Errorf("n = %d: more was left out than had to be", n)
				}
				return len(r.String()), whole
			}
			size, whole := reply(0)
			if !whole {
				t.Fatalf("made shorter from the beginning: %d bytes", size)
			}
			last := (socketmap.MaxReply - size) / tt.step
			if size, whole = reply(last); !whole || size > socketmap.MaxReply || size+tt.step <= socketmap.MaxReply {
				t.Errorf("n = %d: %d bytes, whole: %v", last, size, whole)
			}
			if size, whole = reply(last + 1); whole || size > socketmap.MaxReply {
				t.Errorf("n = %d: %d bytes, whole: %v", last+1, size, whole)
			}
		})
	}
}

// nameOfSize returns a domain of n bytes.
func nameOfSize(n int) string {
	name := []byte(strings.Repeat("d", n-len(".example")) + ".example")
	for i := 50; i < n-len(".example")-1; i += 50 {
		name[i] = '.'
	}
	return string(name)
}

// A policy file has 64 KiB at most, so match always fits: no line of a file
// takes more room in it than in the file.
func TestLongestFileFits(t *testing.T) {
	const maxFile = 64 << 10
	for _, suffix := range []string{".bc", nameOfSize(20), nameOfSize(248)} {
		var b strings.Builder
		for i := 0; b.Len() < maxFile-len("mx:00000\n")-len(suffix); i++ {
			fmt.Fprintf(&b, "mx:%05d%s\n", i, suffix)
		}
		file := b.String()
		v := enforce(t, "example.com", file)
		for _, name := range []string{"policy", "policy-tlsrpt"} {
			reply := policymap.Render(v, mapNamed(t, name))
			if got := parse(t, reply, postfixsyntax.Postfix310); len(got.Match) != len(v.Policy.MX) {
				t.Errorf("names that end in %s: %d hosts match, want %d", suffix, len(got.Match), len(v.Policy.MX))
			}
		}
	}
}

// More hosts than any file can name do not make a policy that lists some.
func TestTooManyHosts(t *testing.T) {
	v := enforce(t, "example.com", manyHosts(5000, ""))
	if got, want := policymap.Render(v, mapNamed(t, "policy-tlsrpt")).String(), "TEMP the policy has too many MX hosts for Postfix"; got != want {
		t.Errorf("got %.100q, want %q", got, want)
	}
}

func TestReasonIsPrintable(t *testing.T) {
	const reason = "the MX lookup failed"
	tests := []struct{ name, detail, want string }{
		{"line breaks", "a\r\nb", `a\r\nb`},
		{"control characters", "a\x00\x1b[0m\x7f", `a\x00\x1b[0m\x7f`},
		{"beyond ASCII", "bücher", `b\u00fccher`},
		{"invalid UTF-8", "a\xffb", `a\xffb`},
		{"quotes stay", `"a" \n`, `"a" \n`},
		{"just fits", strings.Repeat("x", 178), strings.Repeat("x", 178)},
		{"too long by one", strings.Repeat("x", 179), strings.Repeat("x", 175) + "..."},
		{"cut between runes", strings.Repeat("x", 173) + "üü", strings.Repeat("x", 173) + "..."},
		{"cut after a rune", strings.Repeat("x", 169) + "üü", strings.Repeat("x", 169) + `\u00fc...`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := policy.Verdict{Kind: policy.Temp, Reason: reason, Detail: tt.detail}
			got := policymap.Render(v, mapNamed(t, "policy")).Text
			if want := reason + ": " + tt.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if len(got) > 200 {
				t.Errorf("%d bytes, want 200 at most", len(got))
			}
		})
	}
}

func FuzzReason(f *testing.F) {
	f.Add("bücher\x00\r\n")
	f.Add(strings.Repeat("ü", 100))
	f.Fuzz(func(t *testing.T, detail string) {
		v := policy.Verdict{Kind: policy.Temp, Reason: "why", Detail: detail}
		got := policymap.Render(v, policymap.Map{}).Text
		if len(got) > 200 || !strings.HasPrefix(got, "why") || !utf8.ValidString(got) {
			t.Fatalf("%q gives the reason %q", detail, got)
		}
		for _, r := range got {
			if r < ' ' || r > '~' {
				t.Fatalf("%q gives the reason %q", detail, got)
			}
		}
	})
}

// Whatever a domain publishes, Postfix accepts the policy, and finds in it
// what is expected and nothing else.
func FuzzRender(f *testing.F) {
	f.Add("version: STSv1\r\nmode: enforce\r\nmx: mx.example.com\r\nmx: *.example.net\r\nmax_age: 86400\r\n")
	f.Add("mx: a.b\n} match=evil.example { policy_string = \n")
	f.Add("mx: hostname\nmx: a.b servername=evil.example\nmx:a.b,c.d\nmx:a.b:c.d\n")
	f.Add("mx: a.b\n{\n}\n \n\t\n=\n,\n\x00\n\xff\n\u0085\n")
	f.Add("\ufeffmx: a.b\r\r\nx\r")
	f.Fuzz(func(t *testing.T, text string) {
		v := enforce(t, "example.com", text)
		want := postfixsyntax.Policy{Level: "secure", ServerName: "hostname"}
		for _, p := range v.Policy.MX {
			if !slices.Contains(want.MXHostPatterns, p.String()) {
				want.MXHostPatterns = append(want.MXHostPatterns, p.String())
				want.Match = append(want.Match, strings.TrimPrefix(p.String(), "*"))
			}
		}
		for _, name := range []string{"policy", "policy-tlsrpt"} {
			reply := policymap.Render(v, mapNamed(t, name))
			if len(v.Policy.MX) == 0 {
				if reply.Status != socketmap.Temp {
					t.Fatalf("%s: no pattern gives %q", name, reply)
				}
				continue
			}
			if name == "policy" {
				checkBare(t, reply, want)
			} else {
				checkReport(t, reply, want, text)
			}
		}
	})
}

// checkBare compares a reply without attributes for reports.
func checkBare(t *testing.T, reply socketmap.Reply, want postfixsyntax.Policy) {
	t.Helper()
	got := parse(t, reply, postfixsyntax.Postfix34)
	if !slices.Equal(got.Match, want.Match) {
		t.Fatalf("match is %q, want %q", got.Match, want.Match)
	}
	if got.Level != want.Level || got.ServerName != want.ServerName || len(got.Other) > 0 {
		t.Fatalf("got %+v", got)
	}
}

// checkReport compares a reply with attributes for reports, of a text that is
// short enough for all of them.
func checkReport(t *testing.T, reply socketmap.Reply, want postfixsyntax.Policy, text string) {
	t.Helper()
	got := parse(t, reply, postfixsyntax.Postfix310)
	if !slices.Equal(got.Match, want.Match) || got.Level != want.Level || got.ServerName != want.ServerName || len(got.Other) > 0 {
		t.Fatalf("got %+v", got)
	}
	if len(text) > 5000 {
		return // something may have been left out
	}
	if got.PolicyType != "sts" || got.PolicyDomain != "example.com" || !slices.Equal(got.MXHostPatterns, want.MXHostPatterns) {
		t.Fatalf("got %+v", got)
	}
	published := strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n")
	for _, s := range got.PolicyStrings {
		// Each is one of the lines, and they come in order.
		i := slices.IndexFunc(published, func(line string) bool { return postfixsyntax.Fold(line) == s })
		if i < 0 {
			t.Fatalf("%q was not published, or not there", s)
		}
		published = published[i+1:]
	}
}

func BenchmarkRender(b *testing.B) {
	v := enforce(b, "example.com", "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n")
	for _, name := range []string{"policy", "policy-tlsrpt"} {
		m := mapNamed(b, name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				policymap.Render(v, m)
			}
		})
	}
	b.Run("64KiB", func(b *testing.B) {
		v := enforce(b, "example.com", manyHosts(2000, ""))
		b.ReportAllocs()
		for b.Loop() {
			policymap.Render(v, mapNamed(b, "policy-tlsrpt"))
		}
	})
}
