package config

import "strings"

// maxMisspelt is the most bytes of a key for which others are suggested, which
// bounds the work.
const maxMisspelt = 40

// nearestKey returns the key that was probably meant by the unknown key word in
// the section with that prefix, and "" if none is near. If a key of exactly
// that name is in another section, that is the one.
func nearestKey(prefix, word string) string {
	if len(word) > maxMisspelt {
		return ""
	}
	best, bestDistance := "", 3
	for _, k := range keys {
		if last := k.name[strings.LastIndexByte(k.name, '.')+1:]; last == word || k.name == prefix+word {
			return inSection(k.name)
		}
		name, here := strings.CutPrefix(k.name, prefix)
		if !here {
			continue
		}
		name, _, _ = strings.Cut(name, ".")
		if d := distance(normal(word), normal(name)); d < bestDistance && d < len(name) {
			best, bestDistance = name, d
		}
	}
	return best
}

// inSection says in words where a key is.
func inSection(name string) string {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return name + ", which is in no section"
	}
	return name[i+1:] + " in the section " + name[:i]
}

// normal takes away the differences that are no misspelling.
func normal(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "-", "_")
}

// distance counts the letters to insert, to drop, to replace or to swap with
// the next one to come from a to b.
func distance(a, b string) int {
	if len(a) > maxMisspelt || len(b) > maxMisspelt {
		return maxMisspelt
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last = last, row
		row = make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+difference(a[i], b[j]))
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

func difference(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
