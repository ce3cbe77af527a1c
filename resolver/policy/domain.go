package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of a name, in bytes (RFC 1035, section 2.3.4; without the final dot).
const (
	maxName  = 253
	maxLabel = 63
)

// minLabels is how many labels the name of a domain or a host has at least.
const minLabels = 2

// Why a text is no domain or no MX pattern.
var (
	ErrSyntax = errors.New("not a domain name")
	ErrNoHost = errors.New("a name that no mail host can have")
)

// Domain is a policy domain: a DNS name of at least two labels as A-labels,
// in lower case, without a final dot. It comes from [ParseDomain] only; the
// zero value is no domain.
type Domain struct{ name string }

// String returns the name.
func (d Domain) String() string { return d.name }

// ParseDomain reads a domain as people and Postfix write it: in any case, with
// or without a final dot, with A-labels or U-labels. All spellings of a domain
// give equal values. U-labels are mapped by UTS #46, non-transitional; a name
// in ASCII is only lower-cased and checked. The error wraps [ErrSyntax] for
// what is no name at all (address literals, empty labels, underscores), and
// [ErrNoHost] for what cannot be a mail domain (one label, a numeric last
// label).
func ParseDomain(s string) (Domain, error) {
	name, err := toASCII(s)
	if err != nil {
		return Domain{}, err
	}
	name, err = hostName(name, minLabels)
	if err != nil {
		return Domain{}, err
	}
	return Domain{name}, nil
}

// mapping is UTS #46 processing, non-transitional, as a registration-neutral
// lookup. It reports empty and overlong labels, which idna.Lookup does not.
var mapping = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(true),
	idna.BidiRule(),
	idna.VerifyDNSLength(true),
)

// toASCII maps U-labels. ASCII goes back untouched: an A-label that no IDNA
// version knows is still a name in the DNS.
func toASCII(s string) (string, error) {
	if isASCII(s) {
		return s, nil
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: %q is not UTF-8", ErrSyntax, s)
	}
	name, err := mapping.ToASCII(s)
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrSyntax, s, err)
	}
	return name, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// hostName checks a name in ASCII, of so many labels at least, and returns it in
// lower case without its final dot.
func hostName(s string, least int) (string, error) {
	name := strings.TrimSuffix(s, ".")
	labels, last, all := scanName(name)
	switch {
	case labels == 0:
		return "", fmt.Errorf("%w: %q", ErrSyntax, s)
	case labels < least:
		return "", fmt.Errorf("%w: %q has one label", ErrNoHost, s)
	case last == digit:
		return "", fmt.Errorf("%w: %q ends in a number", ErrNoHost, s)
	case all&upper == 0:
		return name, nil
	}
	return strings.ToLower(name), nil
}

// scanName checks letters, digits, hyphens and the lengths (RFC 5321, section
// 4.1.2: sub-domain = Let-dig [Ldh-str]). It returns the number of labels, 0 if
// the name is none, and of what kinds the bytes of the last label and of all of
// them are. It looks at each byte once, since this is done for every question.
func scanName(name string) (labels int, last, all kind) {
	if len(name) > maxName {
		return 0, 0, 0
	}
	first := 0 // where the label begins
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '.' {
			last |= kinds[name[i]]
			continue
		}
		if last&other != 0 || !isLabel(name[first:i]) {
			return 0, 0, 0
		}
		labels, all = labels+1, all|last
		if i < len(name) {
			first, last = i+1, 0
		}
	}
	return labels, last, all
}

// isLabel checks the length and both ends of a label.
func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-'
}

// kind is what a byte is within a label, one bit for each kind.
type kind uint8

const (
	lower kind = 1 << iota
	upper
	digit
	hyphen
	other // has no place in a label
)

// kinds are those of all bytes.
var kinds = func() (k [256]kind) {
	for i := range k {
		switch c := byte(i); {
		case 'a' <= c && c <= 'z':
			k[i] = lower
		case 'A' <= c && c <= 'Z':
			k[i] = upper
		case '0' <= c && c <= '9':
			k[i] = digit
		case c == '-':
			k[i] = hyphen
		default:
			k[i] = other
		}
	}
	return k
}()
