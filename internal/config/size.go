package config

import (
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// ByteSize is a number of bytes.
type ByteSize int64

const (
	kib ByteSize = 1 << (10 * (iota + 1))
	mib
	gib
	tib
)

// sizeUnits are the units of sizes; those that are tried first when a size is
// written stand first.
var sizeUnits = []struct {
	name string
	size ByteSize
}{
	{"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// String returns the size with the largest unit of which it is a multiple.
func (s ByteSize) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return "0B"
}

// size reads a number of bytes with a unit, of at least least.
func size(least ByteSize) func(word) (ByteSize, error) {
	return func(w word) (ByteSize, error) {
		unit := strings.TrimLeft(w.text, "0123456789")
		number := w.text[:len(w.text)-len(unit)]
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, bad("this is no size, such as 512MiB or 2GiB")
		}
		factor, ok := unitNamed(unit)
		if !ok {
			return 0, instead(nearSize(number, unit), "a size is a whole number and a unit: B, kB, MB, GB, TB, KiB, MiB, GiB or TiB")
		}
		if n > math.MaxInt64/int64(factor) {
			return 0, bad("this is more than can be counted")
		}
		if s := ByteSize(n) * factor; s >= least {
			return s, nil
		}
		return 0, bad("this must be at least %s", least)
	}
}

func unitNamed(name string) (ByteSize, bool) {
	for _, u := range sizeUnits {
		if u.name == name {
			return u.size, true
		}
	}
	return 0, false
}

// nearSize suggests the unit that may have been meant.
func nearSize(number, unit string) string {
	unit = strings.TrimSpace(unit)
	if unit == "" {
		return number + "B"
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(u.name, unit) || strings.EqualFold(strings.TrimSuffix(u.name, "iB"), unit) {
			return number + u.name
		}
	}
	return ""
}

// mode reads the mode of a socket: octal digits in quotes.
func mode(w word) (fs.FileMode, error) {
	digits := strings.TrimPrefix(w.text, "0")
	n, err := strconv.ParseUint(digits, 8, 32)
	if err != nil || len(digits) != 3 || len(w.text) > 4 {
		return 0, bad(`this is no file mode, such as "0666" or "0660"`)
	}
	if w.kind != kindText {
		return 0, instead(formatMode(fs.FileMode(n)), "a file mode is written in quotes, since YAML would take it for a number")
	}
	if n&0o222 == 0 {
		return 0, bad("with this mode nobody could connect: it takes the permission to write")
	}
	return fs.FileMode(n), nil
}

func formatMode(m fs.FileMode) string {
	s := strconv.FormatUint(uint64(m.Perm()), 8)
	return `"` + strings.Repeat("0", max(0, 4-len(s))) + s + `"`
}
