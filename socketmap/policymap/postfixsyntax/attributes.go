package postfixsyntax

import (
	"fmt"
	"slices"
	"strings"
)

// rule is what an attribute is bound to.
type rule struct {
	since   Release
	repeats bool
	apply   func(p *parser, name, value string) error
}

// rules are all attributes that are known. policy_ttl is not among them: it is
// deprecated, and no policy should have it.
var rules = map[string]rule{
	"match":            {Postfix34, true, (*parser).match},
	"servername":       {Postfix34, false, (*parser).serverName},
	"ciphers":          {Postfix34, false, (*parser).other},
	"protocols":        {Postfix34, false, (*parser).other},
	"exclude":          {Postfix34, false, (*parser).other},
	"tafile":           {Postfix34, true, (*parser).other},
	"connection_reuse": {Postfix34, false, (*parser).other},
	"enable_rpk":       {Postfix310, false, (*parser).other},
	"policy_type":      {Postfix310, false, (*parser).policyType},
	"policy_domain":    {Postfix310, false, (*parser).policyDomain},
	"policy_failure":   {Postfix310, false, (*parser).policyFailure},
	"policy_string":    {Postfix310, true, (*parser).policyString},
	"mx_host_pattern":  {Postfix310, true, (*parser).mxHostPattern},
}

// match is a list of names with colons between them. Empty names are skipped
// by Postfix, and refused here.
func (p *parser) match(name, value string) error {
	if l := p.policy.Level; l != "secure" && l != "verify" && l != "fingerprint" {
		return fmt.Errorf("%w: %s at level %s", ErrMisplaced, name, l)
	}
	entries := strings.Split(value, ":")
	if slices.Contains(entries, "") {
		return fmt.Errorf("%w: empty name in %s=%s", ErrValue, name, value)
	}
	p.policy.Match = append(p.policy.Match, entries...)
	return nil
}

// serverName is for levels at which Postfix chooses no name by itself.
func (p *parser) serverName(name, value string) error {
	if strings.HasPrefix(p.policy.Level, "dane") {
		return fmt.Errorf("%w: %s at level %s", ErrMisplaced, name, p.policy.Level)
	}
	p.policy.ServerName = value
	return nil
}

func (p *parser) other(name, value string) error {
	if p.policy.Other == nil {
		p.policy.Other = make(map[string]string)
	}
	p.policy.Other[name] = value
	return nil
}

func (p *parser) policyType(name, value string) error {
	if value != "sts" && value != "no-policy-found" {
		return fmt.Errorf("%w: %s=%s", ErrValue, name, value)
	}
	p.policy.PolicyType = value
	return nil
}

func (p *parser) policyDomain(name, value string) error {
	if !validHostName(value) {
		return fmt.Errorf("%w: %s=%s", ErrValue, name, value)
	}
	p.policy.PolicyDomain = value
	return p.needsType(name)
}

func (p *parser) policyFailure(name, value string) error {
	if err := p.other(name, value); err != nil {
		return err
	}
	return p.needsType(name)
}

func (p *parser) policyString(name, value string) error {
	p.policy.PolicyStrings = append(p.policy.PolicyStrings, value)
	return p.needsType(name)
}

// mxHostPattern wants a wildcard as "*.": with a mere dot it matches no host.
func (p *parser) mxHostPattern(name, value string) error {
	if !validHostName(strings.TrimPrefix(value, "*.")) {
		return fmt.Errorf("%w: %s=%s", ErrValue, name, value)
	}
	p.policy.MXHostPatterns = append(p.policy.MXHostPatterns, value)
	return p.needsType(name)
}

// needsType refuses what comes before policy_type or without it.
func (p *parser) needsType(name string) error {
	if p.policy.PolicyType == "" {
		return fmt.Errorf("%w: %s without policy_type before it", ErrMisplaced, name)
	}
	return nil
}

// validHostName reports whether Postfix takes s for the name of a host.
func validHostName(s string) bool {
	if s == "" || len(s) > 255 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.IndexFunc(label, func(r rune) bool { return !isHostChar(r) }) >= 0 {
			return false
		}
	}
	return true
}

func isHostChar(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}
