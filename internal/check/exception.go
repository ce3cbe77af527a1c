package check

import (
	"slices"
	"strings"
)

// Exception is how a domain is excepted from every policy.
type Exception struct {
	// Line stands in a table of its own.
	Line string
	// Setting is the line of main.cf that asks the table first.
	Setting string
}

// lookupKey is the next-hop as Postfix looks it up in a table: in lower case,
// with the service as it is written, and a name in letters beyond ASCII as the
// mail has it, which is not to be found under its A-labels.
func (r *Report) lookupKey() string {
	return strings.ToLower(strings.TrimSuffix(r.Key, "."))
}

// exceptions is the table of exceptions; texthash needs no postmap.
const exceptions = "texthash:/etc/postfix/tls_exceptions"

// Exception returns what to paste to except the next-hop. It must be the key
// that Postfix asks for, so that it is in lower case.
func (r *Report) Exception() Exception {
	level := "may"
	if r.allEncrypt() {
		level = "encrypt"
	}
	var maps []string
	if r.Postfix != nil {
		maps = splitMaps(r.Postfix.Settings[setMaps])
	}
	return Exception{
		Line:    r.lookupKey() + "  " + level,
		Setting: setMaps + " = " + strings.Join(excepting(maps, mapAt(r.listen)), ", "),
	}
}

// excepting returns the maps with the table of exceptions before the first
// socketmap; where there is none, with the daemon's at the end.
func excepting(maps []string, daemon string) []string {
	isSocketmap := func(m string) bool { return len(socketmaps(m)) > 0 }
	isTable := func(m string) bool { return m == exceptions }
	first := slices.IndexFunc(maps, isSocketmap)
	if first < 0 {
		maps, first = append(maps, daemon), len(maps)
	}
	if at := slices.IndexFunc(maps, isTable); at >= 0 && at < first {
		return maps
	}
	before, behind := maps[:first], slices.DeleteFunc(slices.Clone(maps[first:]), isTable)
	return slices.Concat(before, []string{exceptions}, behind)
}

// splitMaps splits a list of maps as Postfix does: at commas and white space, but
// not within braces.
func splitMaps(list string) []string {
	depth := 0
	maps := strings.FieldsFunc(list, func(c rune) bool {
		switch c {
		case '{':
			depth++
		case '}':
			depth = max(0, depth-1)
		}
		return depth == 0 && strings.ContainsRune(", \t\r\n", c)
	})
	for i, m := range maps {
		maps[i] = strings.Join(strings.Fields(m), " ") // as on one line
	}
	return maps
}
