// Package printable makes text that somebody else wrote fit for a terminal: a
// domain, a file or a mail host may put anything into it, and must not move the
// cursor, change the direction of writing or hide what stands there.
//
// What is printable is what [unicode.IsPrint] says: letters, digits, punctuation
// and symbols of any script, and the space.
package printable

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Escape writes every character that is not printable as JSON does, \u and four
// digits. A byte that is no UTF-8 becomes \ufffd. The result is one line.
func Escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		c, size := utf8.DecodeRuneInString(s)
		switch {
		case c == utf8.RuneError && size == 1, !unicode.IsPrint(c):
			escape(&b, c)
		default:
			b.WriteRune(c)
		}
		s = s[size:]
	}
	return b.String()
}

func escape(b *strings.Builder, c rune) {
	if high, low := utf16.EncodeRune(c); high != unicode.ReplacementChar {
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		return
	}
	fmt.Fprintf(b, `\u%04x`, c)
}

// Line returns a text as one line to print: escaped, without blanks at its end.
func Line(s string) string { return strings.TrimRight(Escape(s), " ") }

// JSON returns v as indented JSON in which every character is printable. v is
// made of what always can be encoded: strings, numbers, our own times, and lists, maps
// and structs of them.
func JSON(v any) string { return encode(v, "  ") }

// JSONLine returns v, as [JSON] does, on one line.
func JSONLine(v any) string { return encode(v, "") }

func encode(v any, indent string) string {
	var b, escaped strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(v); err != nil {
		panic(err) // as said above
	}
	// Line feeds are the encoder's own; all others stand in strings and are
	// escaped by it.
	for line := range strings.Lines(b.String()) {
		escaped.WriteString(Escape(strings.TrimSuffix(line, "\n")) + "\n")
	}
	return escaped.String()
}
