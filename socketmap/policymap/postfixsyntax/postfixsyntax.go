// Package postfixsyntax reads a value of smtp_tls_policy_maps as Postfix does,
// and says what Postfix would make of it. It is for tests: what it refuses
// defers mail.
//
// It does not judge whether a policy is wise, knows no parameter of main.cf,
// and does no I/O. Where Postfix only warns, or where releases differ, it is
// the stricter one; so what it accepts every Postfix accepts.
//
// Specification: smtp_tls_policy_maps in postconf(5), for Postfix from 3.4 on,
// and from 3.10 on with the attributes for TLSRPT.
package postfixsyntax

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Release is what a Postfix understands.
type Release uint8

// The two kinds of releases.
const (
	// Postfix34 is any from 3.4 to 3.9: no braces, no attributes for TLSRPT.
	Postfix34 Release = iota + 1
	// Postfix310 is 3.10 and later.
	Postfix310
)

// What is wrong with a policy.
var (
	ErrEmpty     = errors.New("invalid empty policy")
	ErrLevel     = errors.New("invalid security level")
	ErrMalformed = errors.New("malformed policy attribute")
	ErrName      = errors.New("invalid attribute name")
	ErrValue     = errors.New("invalid attribute value")
	ErrTwice     = errors.New("attribute is specified multiple times")
	ErrMisplaced = errors.New("attribute is invalid here")
)

// Policy is what a value says.
type Policy struct {
	Level string
	// Match holds the entries of all match attributes, one by one.
	Match      []string
	ServerName string

	// What is for TLSRPT.
	PolicyType     string
	PolicyDomain   string
	MXHostPatterns []string
	PolicyStrings  []string

	// Other holds the attributes that have no field of their own, by name.
	Other map[string]string
}

// levels are the names that are documented.
var levels = []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"}

// Parse reads a value as a Postfix of the given release does. An error stands
// for "invalid policy", with which Postfix defers the mail.
func Parse(release Release, value string) (Policy, error) {
	value, _, _ = strings.Cut(value, "\x00") // it is a C string
	p := parser{release: release, seen: make(map[string]bool)}
	level, rest := token(value)
	if level == "" {
		return Policy{}, ErrEmpty
	}
	p.policy.Level = strings.ToLower(level)
	if !slices.Contains(levels, p.policy.Level) {
		return Policy{}, fmt.Errorf("%w: %q", ErrLevel, level)
	}
	for {
		var tok string
		if tok, rest = p.token(rest); tok == "" {
			return p.policy, nil
		}
		if err := p.attribute(tok); err != nil {
			return Policy{}, err
		}
	}
}

// parser is a policy that is being read.
type parser struct {
	release Release
	policy  Policy
	seen    map[string]bool // attributes that were there, by name
}

// separators are what Postfix calls comma and blanks; space is what C does.
const (
	separators = ", \t\r\n"
	space      = " \t\r\n\v\f"
)

// token cuts the first token off s; it is empty at the end.
func token(s string) (tok, rest string) {
	s = strings.TrimLeft(s, separators)
	if i := strings.IndexAny(s, separators); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// token is as above, but what is in braces is not cut, in releases that know
// braces.
func (p *parser) token(s string) (tok, rest string) {
	if p.release < Postfix310 {
		return token(s)
	}
	s = strings.TrimLeft(s, separators)
	depth := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case depth == 0 && strings.IndexByte(separators, c) >= 0:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// attribute applies an attribute.
func (p *parser) attribute(tok string) error {
	name, value, err := p.nameValue(tok)
	if err != nil {
		return err
	}
	rule, known := rules[name]
	if !known || rule.since > p.release {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	if value == "" {
		return fmt.Errorf("%w: %s is empty", ErrValue, name)
	}
	if p.seen[name] && !rule.repeats {
		return fmt.Errorf("%w: %s", ErrTwice, name)
	}
	p.seen[name] = true
	return rule.apply(p, name, value)
}

// nameValue reads "name=value" or "{ name = value }".
func (p *parser) nameValue(tok string) (name, value string, err error) {
	if p.release >= Postfix310 && tok[0] == '{' {
		if tok, err = unbrace(tok); err != nil {
			return "", "", err
		}
	}
	name, value, found := strings.Cut(tok, "=")
	name, value = strings.ToLower(strings.Trim(name, space)), strings.Trim(value, space)
	if !found || name == "" || strings.ContainsAny(name, space) {
		return "", "", fmt.Errorf("%w: no name and value in %q", ErrMalformed, tok)
	}
	return name, value, nil
}

// unbrace strips the braces of a group, and folds the white space in it.
func unbrace(tok string) (string, error) {
	depth := 0
	for i := range len(tok) {
		switch tok[i] {
		case '{':
			depth++
		case '}':
			depth--
		}
		if depth == 0 {
			if i != len(tok)-1 {
				return "", fmt.Errorf("%w: text after '}' in %q", ErrMalformed, tok)
			}
			return Fold(tok[1:i]), nil
		}
	}
	return "", fmt.Errorf("%w: missing '}' in %q", ErrMalformed, tok)
}

// Fold returns s without white space at its ends and with one blank for every
// other run of it, as Postfix reads what is in braces.
func Fold(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(space, r) })
	return strings.Join(fields, " ")
}
