package printable_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"tlspolicyd/internal/printable"
)

func TestEscape(t *testing.T) {
	for _, tt := range []struct{ name, s, want string }{
		{"nothing to escape", `mx.example.com, "a\b"`, `mx.example.com, "a\b"`},
		{"printable letters of any script", "bücher 例え", "bücher 例え"},
		{"control characters", "a\x00\t\r\n\x1b[31m\x7f", `a\u0000\u0009\u000d\u000a\u001b[31m\u007f`},
		{"C1 control characters", "\u0080\u009b31m\u0085", `\u0080\u009b31m\u0085`},
		{"changes of the direction", "\u202e\u2066\u200f\u061c", `\u202e\u2066\u200f\u061c`},
		{"line separators", "\u2028\u2029", `\u2028\u2029`},
		{"what cannot be seen", "\u200b\ufeff\u00ad\u00a0", `\u200b\ufeff\u00ad\u00a0`},
		{"beyond 16 bits", "\U000e0041\U0001f600", `\udb40\udc41` + "\U0001f600"},
		{"no UTF-8", "a\xffb\xc3", `a\ufffdb\ufffd`},
		{"empty", "", ""},
	} {
		if got := printable.Escape(tt.s); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLine(t *testing.T) {
	for s, want := range map[string]string{"NOTFOUND ": "NOTFOUND", " a\n b  ": ` a\u000a b`, "": "", "  ": "", "a\t": `a\u0009`} {
		if got := printable.Line(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

func TestJSONLine(t *testing.T) {
	got := printable.JSONLine(map[string][]string{"a\u202e": {"<b>\u009b\n", "c"}})
	want := "{\"a\\u202e\":[\"<b>\\u009b\\n\",\"c\"]}\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestJSON(t *testing.T) {
	got := printable.JSON(map[string]string{"a\u202e": "<b>\u009b\n\x7f\U000e0041"})
	want := "{\n  \"a\\u202e\": \"<b>\\u009b\\n\\u007f\\udb40\\udc41\"\n}\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is written comes back, and nothing of it plays with the terminal.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"", "a", "\u202e", "\u009b", "\U000e0041", `\u202e`, "\\\u202e", "\xff", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := printable.JSON([]string{s})
		for _, c := range text {
			if c != '\n' && !unicode.IsPrint(c) || c == utf8.RuneError && !strings.ContainsRune(s, c) {
				t.Errorf("%q holds %U", text, c)
			}
		}
		var back []string
		if err := json.Unmarshal([]byte(text), &back); err != nil || back[0] != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q: got %q, %v", s, back, err)
		}
	})
}
