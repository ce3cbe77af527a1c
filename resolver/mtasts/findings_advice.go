package mtasts

import (
	"strings"

	"tlspolicyd/resolver/policy"
)

// adviseLine explains a line without a colon, or with a key that cannot be one.
// meant is the known key that seems to be meant; empty if none does.
func adviseLine(content string, colon bool) (reason, suggestion, meant string) {
	switch {
	case strings.HasPrefix(content, "#"), strings.HasPrefix(content, "//"):
		return "the format has no comments", "remove the line", ""
	case strings.HasPrefix(content, "---"):
		return "this looks like the source of a site generator", "publish the file that the generator makes of it", ""
	case strings.HasPrefix(content, "-"):
		return "this looks like a list, which the format does not have", "write one line for each mail host, as in: mx: mail.example.com", ""
	}
	reason = `there is no colon, so this is no "key: value"`
	if colon {
		reason = "a key has 1 to 32 characters: a letter or digit, then letters, digits, dots, hyphens and underscores"
	}
	key, value := content, ""
	if i := strings.IndexAny(content, ":="+wsp); i >= 0 {
		key, value = content[:i], content[i+1:]
	}
	if meant = resembles(strings.Trim(key, enclosing)); meant != "" {
		return reason, adviseField(meant, value), meant
	}
	return reason, "remove the line", ""
}

// enclosing is what people put around a word.
const enclosing = "\"'`<>()[]{}\\"

// adviseEmpty says what to do about a key without a value.
func adviseEmpty(key string) string {
	if known(key) == "" {
		return "remove the line"
	}
	return adviseField(key, "")
}

// adviseField writes the line that key, one of the four, should have; value is
// what the file says.
func adviseField(key, value string) string {
	switch key {
	case keyVersion:
		return "version: STSv1"
	case keyMode:
		return adviseMode(value)
	case keyMaxAge:
		return adviseMaxAge(value)
	default:
		if hosts := mxWithin(value); len(hosts) > 0 {
			return "mx: " + hosts[0].String()
		}
		return "mx: mail.example.com"
	}
}

// adviseMode guesses the mode that is meant; testing does no harm if the guess
// is wrong.
func adviseMode(value string) string {
	value = strings.ToLower(value)
	enforce, none := strings.Contains(value, "enforce"), strings.Contains(value, "none")
	switch {
	case strings.Contains(value, "test"), enforce == none:
		return "mode: testing"
	case enforce:
		return "mode: enforce"
	default:
		return "mode: none"
	}
}

// adviseMaxAge finds the number in values such as "604,800" and "604800 # a
// week". Where there is none, a week is a good value.
func adviseMaxAge(value string) string {
	value, _, _ = strings.Cut(value, "#")
	value = strings.Trim(value, enclosing+wsp)
	value = strings.TrimSuffix(value, "s")
	digits := strings.NewReplacer(",", "", "'", "", "_", "", " ", "").Replace(value)
	if digits == "" || len(digits) > maxAgeDigits || strings.Trim(digits, "0123456789") != "" {
		digits = "604800"
	}
	return "max_age: " + digits
}

// mxMistakes are the ways in which people write what is no mx, the most
// telling first.
var mxMistakes = [...]struct {
	signs, reason string
}{
	{"#", "the format has no comments, not after a value either"},
	{"/", "this is a web address, not the name of a mail host"},
	{"[]", "this is an address, not the name of a mail host"},
	{", \t;", "each mail host has a line of its own, with its name and nothing else"},
	{":", "a mail host has a name, no port and no address here"},
	{"_", "the name of a mail host has no underscore in it"},
	{"*", "a wildcard stands for the whole first label of a name and for nothing else"},
}

// adviseMX explains what is wrong with an mx outside of the grammar.
func adviseMX(value string) (reason, suggestion string) {
	suggestion = "write the full name of the mail host, as in: mx: mail.example.com"
	switch hosts := mxWithin(value); len(hosts) {
	case 0:
	case 1:
		suggestion = "mx: " + hosts[0].String()
	default:
		suggestion = "mx: " + hosts[0].String() + " and a line of its own for each of the others"
	}
	name := strings.TrimPrefix(value, "*.")
	for _, m := range mxMistakes {
		if strings.ContainsAny(name, m.signs) {
			return m.reason, suggestion
		}
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			// RFC 8461, section 3.2: internationalized names as A-labels.
			return "a name that is not in ASCII is written in its encoded form (xn--...)", suggestion
		}
	}
	return "not the name of a mail host, nor a domain with *. before it", suggestion
}

const (
	// maxWords is how many words of a value are looked at for a host.
	maxWords = 16
	// maxWord is the length of the longest word that may name a host.
	maxWord = 300
)

// mxWithin finds the hosts in a value that is none by itself.
func mxWithin(value string) []policy.MXPattern {
	value, _, _ = strings.Cut(value, "#")
	var hosts []policy.MXPattern
	n := 0
	for word := range strings.FieldsFuncSeq(value, func(c rune) bool { return strings.ContainsRune(",; \t", c) }) {
		if n++; n > maxWords {
			break
		}
		if pattern, ok := mxOf(word); ok {
			hosts = append(hosts, pattern)
		}
	}
	return hosts
}

// mxOf reads one word as a host: without the parts of a URL, a port, quotes
// and brackets, with the wildcard written as it should be.
func mxOf(word string) (policy.MXPattern, bool) {
	if len(word) > maxWord {
		return policy.MXPattern{}, false
	}
	if _, host, ok := strings.Cut(word, "://"); ok {
		word = host
	}
	word, _, _ = strings.Cut(word, "/")
	word = strings.Trim(word, enclosing)
	word, _, _ = strings.Cut(word, ":")
	wildcard := ""
	if rest := strings.TrimLeft(word, "*."); rest != word {
		word, wildcard = rest, "*."
	}
	domain, err := policy.ParseDomain(word)
	if err != nil {
		return policy.MXPattern{}, false
	}
	pattern, err := policy.ParseMXPattern(wildcard + domain.String())
	return pattern, err == nil
}

// resembles returns the known key that an unknown one looks like; empty if it
// looks like none.
func resembles(key string) string {
	if !isFieldName(key) {
		return ""
	}
	key = strings.Map(func(c rune) rune {
		if c == '-' || c == '.' {
			return '_'
		}
		return c
	}, strings.ToLower(key))
	for _, k := range [...]struct {
		key    string
		errors int // how many letters may be wrong
	}{{keyVersion, 2}, {keyMode, 1}, {keyMaxAge, 2}, {keyMX, 1}} {
		if distance(key, k.key) <= k.errors {
			return k.key
		}
	}
	if strings.HasPrefix(key, keyMX) {
		return keyMX
	}
	return ""
}

// distance is the least number of letters to insert, drop or replace that makes
// b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
