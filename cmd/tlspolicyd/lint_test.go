package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// lintOf runs lint with a file of that name and content.
func lintOf(t *testing.T, name, content string, args ...string) (out string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, messages bytes.Buffer
	code = run(t.Context(), append([]string{"lint", path}, args...), "", strings.NewReader(""), &stdout, &messages)
	if messages.Len() > 0 {
		t.Errorf("messages: %q", messages.String())
	}
	return stdout.String(), code
}

// Files that are no policy at all: one sentence that says what they are.
func TestLintOfWhatIsNoPolicy(t *testing.T) {
	const policy = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 604800\n"
	tooLarge := policy + strings.Repeat("x: y\n", 100000)
	binary := "\x7fELF\x02\x01\x01\x00\x00>\n\xff\x00\n"
	noNUL := strings.Map(func(c rune) rune { return max(c, 1) }, binary)
	packed := make([]byte, 3000)
	for i := range packed {
		packed[i] = byte(i*i*31%255 + 1)
	}
	const noText = "the file is no text: much of it is control characters, or bytes that are no UTF-8"
	utf16 := strings.Join(strings.Split(policy, ""), "\x00") + "\x00"
	for _, tt := range []struct{ name, content, want, instead string }{
		{"too large", tooLarge, "the file has more than 65536 bytes; mail servers need not read more", "name the mail hosts by a wildcard, as in: mx: *.example.com"},
		{"one byte too large", policy + strings.Repeat("\n", 65537-len(policy)), "the file has more than 65536 bytes; mail servers need not read more", "name the mail hosts by a wildcard, as in: mx: *.example.com"},
		{"a program", binary, "the file is no text: it holds NUL bytes", "write the policy as plain text in UTF-8 or ASCII"},
		{"a large program", strings.Repeat(binary, 10000), "the file is no text: it holds NUL bytes", "write the policy as plain text in UTF-8 or ASCII"},
		{"a program without NUL", strings.Repeat(noNUL, 20), noText, "write the policy as plain text in UTF-8 or ASCII"},
		{"a packed file", string(packed), noText, "write the policy as plain text in UTF-8 or ASCII"},
		{"a large packed file", strings.Repeat(string(packed), 30), noText, "write the policy as plain text in UTF-8 or ASCII"},
		{"UTF-16", utf16, "the file is no text: it holds NUL bytes", "write the policy as plain text in UTF-8 or ASCII"},
	} {
		out, code := lintOf(t, "file", tt.content)
		lines := strings.Split(out, "\n")
		if code != exitNo || len(lines) != 4 || !strings.HasSuffix(lines[0], ": error: "+tt.want) || lines[1] != "\tinstead: "+tt.instead {
			t.Errorf("%s: got %d, %q", tt.name, code, out)
		}
	}
	if out, code := lintOf(t, "file", policy+strings.Repeat("x1: y\n", 10900)+strings.Repeat("y", 1)); code != exitNo || strings.Contains(out, "more than 65536") {
		t.Errorf("a large file that is not too large: got %d, %.300q", code, out)
	}
}

// A letter that is no UTF-8 does not make a policy unreadable.
func TestLintOfALetterThatIsNoUTF8(t *testing.T) {
	out, code := lintOf(t, "file", "version: STSv1\nmode: enforce\nmx: b\xfccher.example\nmax_age: 604800\n")
	if code != exitNo || !strings.Contains(out, ":3:") {
		t.Errorf("got %d, %q", code, out)
	}
}

// Neither the name of a file nor what stands in it plays with the terminal.
func TestLintIsFitForATerminal(t *testing.T) {
	name := "a\x1b[31m\u202e\u009b\n.txt"
	content := "version: STSv1\n\u202ekey\u009b\x7f: 1\nmode: \u2066enforce\x1b\nmx: \u202e.example.com\n"
	for _, args := range [][]string{nil, {"--json"}} {
		out, code := lintOf(t, name, content, args...)
		odd := func(c rune) bool { return c != '\n' && c != '\t' && !unicode.IsPrint(c) }
		if i := strings.IndexFunc(out, odd); i >= 0 || code != exitNo {
			t.Errorf("%q: got %d, %q", args, code, out)
		}
		if !strings.Contains(out, `a\u001b[31m\u202e\u009b`) {
			t.Errorf("%q: the name is not shown in %q", args, out)
		}
		if len(args) == 0 && strings.Contains(out, "\n.txt") {
			t.Errorf("the name is more than one line in %q", out)
		}
	}
}
