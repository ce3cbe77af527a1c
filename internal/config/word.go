package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// kind is what YAML takes a scalar for.
type kind uint8

const (
	kindText kind = iota
	kindNumber
	kindBool
	kindNothing
)

// word is a scalar as it is written, without its quotes.
type word struct {
	text string
	kind kind
	at   position
}

// wordOf returns a scalar, and false for a list or a section.
func wordOf(n ast.Node) (word, bool) {
	t := n.GetToken()
	w := word{text: t.Value, at: positionOf(t)}
	switch n := n.(type) {
	case *ast.StringNode:
		w.text = n.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		w.kind = kindNumber
	case *ast.BoolNode:
		w.kind = kindBool
	case *ast.NullNode:
		w.kind = kindNothing
	default:
		return word{}, false
	}
	return w, true
}

// badWord is why a word is no value of its key, and what would be one.
type badWord struct {
	reason, suggestion string
	// secret means that the word is not to be quoted.
	secret bool
}

// Error returns the reason.
func (b *badWord) Error() string { return b.reason }

func bad(format string, args ...any) error {
	return &badWord{reason: fmt.Sprintf(format, args...)}
}

// instead is an error with a suggestion.
func instead(suggestion, format string, args ...any) error {
	return &badWord{reason: fmt.Sprintf(format, args...), suggestion: suggestion}
}

// addFault reports the error of a word.
func addFault(r *report, w word, err error) {
	if w.kind == kindNothing {
		r.add(w.at, "", "there is no value; leave the key out to have the default", "")
		return
	}
	text, suggestion := w.text, ""
	if b, ok := errors.AsType[*badWord](err); ok {
		suggestion = b.suggestion
		if b.secret {
			text = hidden
		}
	}
	r.add(w.at, text, err.Error(), suggestion)
}

// asText returns the word if YAML takes it for text, and it stands on one line.
func (w word) asText() (string, error) {
	if w.kind != kindText {
		return "", instead(strconv.Quote(w.text), "text is expected here")
	}
	if i := strings.IndexFunc(w.text, isControl); i >= 0 {
		return "", bad("there is a control character in this text")
	}
	return w.text, nil
}

// boolean reads true or false.
func boolean(w word) (bool, error) {
	if w.kind == kindBool {
		return strings.EqualFold(w.text, "true"), nil
	}
	switch strings.ToLower(w.text) {
	case "yes", "on", "1", "true", "y":
		return false, instead("true", "true or false is expected here")
	case "no", "off", "0", "false", "n":
		return false, instead("false", "true or false is expected here")
	default:
		return false, bad("true or false is expected here")
	}
}

// integer reads a whole number within limits.
func integer(least, most int) func(word) (int, error) {
	return func(w word) (int, error) {
		if !isDigits(strings.TrimPrefix(w.text, "-")) {
			return 0, bad("a whole number is expected here, in decimal digits")
		}
		n, err := strconv.Atoi(w.text)
		if err != nil || n < least || n > most {
			return 0, bad("a number from %d to %d is expected here", least, most)
		}
		if w.kind != kindNumber {
			return 0, instead(strconv.Itoa(n), "a number is expected here, without quotes")
		}
		if s := strconv.Itoa(n); s != w.text {
			return 0, instead(s, "a number is written without leading zeros")
		}
		return n, nil
	}
}

// leastDuration is shorter than any answer from the network can be counted on:
// what is less was meant to be minutes.
const leastDuration = 100 * time.Millisecond

// duration reads a duration that is at least leastDuration, and at most most.
func duration(most time.Duration, why string) func(word) (time.Duration, error) {
	return func(w word) (time.Duration, error) {
		d, ok := parseDuration(w.text)
		switch {
		case isDigits(w.text):
			return 0, instead(w.text+"s", "a duration needs a unit: ms, s, m, h or d")
		case !ok:
			return 0, instead(nearDuration(w.text), "this is no duration, such as 500ms, 10s, 1h30m or 30d")
		case d < leastDuration:
			return 0, bad("this must be at least %s", formatDuration(leastDuration))
		case d > most:
			return 0, bad("this must be at most %s: %s", formatDuration(most), why)
		default:
			return d, nil
		}
	}
}

// day is the unit that Go's syntax of durations lacks.
const day = 24 * time.Hour

// maxDays keeps the sum of days and hours within a time.Duration.
const maxDays = math.MaxInt64 / int64(day) / 2

// parseDuration reads Go's syntax of durations, with whole days before it.
func parseDuration(s string) (time.Duration, bool) {
	days, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		d, err := time.ParseDuration(s)
		return d, err == nil && !isDigits(s)
	}
	n, err := strconv.ParseInt(days, 10, 64)
	if err != nil || !isDigits(days) || n > maxDays {
		return 0, false
	}
	sum := time.Duration(n) * day
	if rest == "" {
		return sum, true
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64/2 {
		return 0, false
	}
	return sum + d, true
}

// nearDuration understands units in words, and returns "" for what it does not
// understand.
func nearDuration(s string) string {
	near := strings.NewReplacer(
		" ", "", "seconds", "s", "second", "s", "sec", "s", "minutes", "m", "minute", "m", "min", "m",
		"hours", "h", "hour", "h", "days", "d", "day", "d",
	).Replace(strings.ToLower(s))
	if _, ok := parseDuration(near); !ok || len(near) > maxMisspelt {
		return ""
	}
	return near
}

// formatDuration writes a duration without the parts that are zero, and a short
// one in seconds.
func formatDuration(d time.Duration) string {
	if d < 2*time.Minute && d >= time.Second && d%time.Second == 0 {
		return strconv.Itoa(int(d/time.Second)) + "s"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// choice reads one of several words.
func choice[T ~string](words ...T) func(word) (T, error) {
	return func(w word) (T, error) {
		near := ""
		for _, c := range words {
			if w.text == string(c) {
				return c, nil
			}
			if lower := strings.ToLower(w.text); strings.HasPrefix(lower, string(c)) || distance(lower, string(c)) <= 2 {
				near = string(c)
			}
		}
		all := make([]string, len(words))
		for i, c := range words {
			all[i] = string(c)
		}
		return "", instead(near, "one of %s is expected here", strings.Join(all, ", "))
	}
}
