//go:build e2e

package delivery_test

import (
	"fmt"
	"strings"

	"tlspolicyd/test/lab"
)

// hostileRows: whatever a domain publishes, Postfix understands the answer,
// and the answer says what an honest policy would have said. A text that is no
// policy leaves the mail to Postfix's own level.
func hostileRows() []row {
	var rows []row
	for name, line := range map[string]string{
		"closing brace":       "x: } tafile=/etc/passwd {",
		"balanced braces":     "x: { policy_string = y } servername=mx.attacker.test",
		"open brace":          "x: {",
		"commas":              "x: a, match=.test, servername=mx.attacker.test",
		"blanks":              "x: a   match=.test   b",
		"equals sign first":   "x: = match=.test",
		"only an equals sign": "x: =",
		"level":               "x: may",
		"reply":               "x: OK may",
		"backslash":           `x: \`,
		"quotes":              `x: "a' ` + "`b`",
		"dollar":              "x: $myhostname ${data_directory} %s",
		"named match":         "match: .test",
		"named servername":    "servername: mx.attacker.test",
		"named policy_type":   "policy_type: tlsa",
		"named policy_string": "policy_string: { a }",
		"UTF-8":               "x: h\u00e4llo \u4e16\u754c",
		"mx without domain":   "mx: hostname",
		"mx nexthop":          "mx: nexthop",
		"mx dot-nexthop":      "mx: dot-nexthop",
		"mx of digits":        "mx: 127.1.0.1",
		"mx below a TLD":      "mx: *.com",
		"mode twice":          "mode: none",
		"max_age twice":       "max_age: 0",
		"500 mx":              mxLines(500, 20),
		"60 KB of mx":         mxLines(600, 90),
		"60 KB of extensions": strings.Repeat("x: "+strings.Repeat("y", 26)+"\n", 2000) + "x: z",
		"60 KB of short ones": strings.Repeat("x: y\n", 12_000) + "x: z",
		"one value of 60 KB":  "x: " + strings.Repeat("a ", 30_000) + "b",
	} {
		rows = append(rows, row{name: "policy/" + name, policy: enforce + line + "\n", want: lab.Verified})
	}
	for name, line := range map[string]string{
		"NUL":                  "x: a\x00 match=.test",
		"escape":               "x: a\x1b[2J",
		"tab":                  "x: a\tb",
		"carriage return":      "x: a\rmode: none",
		"no colon":             "match=.test",
		"blank before":         " x: a",
		"empty value":          "x:",
		"mx with a blank":      "mx: a.test match=.test",
		"mx with a comma":      "mx: a.test,servername=b.test",
		"mx with a colon":      "mx: a.test:.test",
		"mx with a brace":      "mx: {a}.test",
		"mx with a dot first":  "mx: .test",
		"mx that is all":       "mx: *",
		"mx of a TLD":          "mx: *.*",
		"mx with a port":       "mx: a.test:25",
		"mx in brackets":       "mx: [127.1.0.1]",
		"mx that is a U-label": "mx: b\u00fccher.test",
		"mx with a NUL":        "mx: a\x00.test",
	} {
		rows = append(rows, row{name: "no policy/" + name, policy: enforce + line + "\n", want: lab.Trusted})
	}
	return rows
}

// mxLines returns lines for n hosts with names of about size bytes.
func mxLines(n, size int) string {
	var b strings.Builder
	for i := range n {
		label := fmt.Sprintf("%0*d", size-len(".a.test"), i)
		if len(label) > 60 {
			label = label[:len(label)-50] + "." + label[len(label)-50:]
		}
		fmt.Fprintf(&b, "mx: m%s.a.test\n", label)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
