package check

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap/policymap"
)

// Unasked returns the report on a key for which the daemon answers NOTFOUND
// without a look, for a reason of [policymap.ParseKey].
func (c *Checker) Unasked(ctx context.Context, key string, reason error) *Report {
	r := &Report{Key: key, Unasked: reason, Asked: time.Now(), listen: c.o.Listen}
	c.postfix(ctx, r)
	if r.Postfix != nil && r.Postfix.Err == nil {
		r.Postfix.look(r.place(c.o.Listen))
	}
	v := policy.Verdict{Kind: policy.NotFound, Reason: reason.Error()}
	for _, name := range mapNames {
		m, _ := policymap.FindMap(name)
		r.Answers = append(r.Answers, Answer{Map: name, Verdict: v, Reply: policymap.Render(v, m)})
	}
	r.Conclusion = Conclusion{
		Outcome: Unauthenticated,
		Summary: "the daemon answers NOTFOUND for this key without a look, so Postfix's own level applies" + r.ownLevel(),
		Because: []string{reason.Error()},
		Here:    c.broken(ctx, r.Postfix),
		Remedy:  r.anotherKey(),
	}
	if isAddress(key) {
		r.Conclusion.Because = []string{"an IP address has no MTA-STS policy and no DANE"}
	}
	return r
}

// ownLevel is the level that Postfix's settings demand of every host, in
// brackets; empty if it is not known.
func (r *Report) ownLevel() string {
	if r.Postfix == nil || r.Postfix.Err != nil {
		return ""
	}
	return " (" + strings.TrimSpace(setLevel+" = "+r.Postfix.Settings[setLevel]) + ")"
}

// anotherKey says for which key the daemon would look; empty if that cannot be
// guessed.
func (r *Report) anotherKey() string {
	_, domain, isMailbox := strings.Cut(r.Key, "@")
	if parent, ok := strings.CutPrefix(r.Key, "."); ok {
		domain, isMailbox = parent, true
	}
	_, err := policy.ParseDomain(domain)
	switch {
	case isAddress(r.Key):
		return "name the host instead of its address in the transport map, if it has a policy or DANE"
	case errors.Is(r.Unasked, policymap.ErrSmartHost):
		return "smart_hosts: true in the configuration has the daemon look at smart hosts"
	case isMailbox && err == nil:
		return "ask for the domain: tlspolicyd check " + domain
	case errors.Is(r.Unasked, policy.ErrNoHost):
		return "give the host its full name in the transport map, if it has a policy or DANE"
	default:
		return ""
	}
}

// isAddress reports whether a key is an IP address, with or without brackets
// and a port.
func isAddress(key string) bool {
	host := key
	if inner, ok := strings.CutPrefix(key, "["); ok {
		host, _, _ = strings.Cut(inner, "]")
	}
	const literal = "ipv6:" // RFC 5321, section 4.1.3
	if len(host) > len(literal) && strings.EqualFold(host[:len(literal)], literal) {
		host = host[len(literal):]
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// exceptable reports whether a line in a table does something for the key: it
// does where Postfix looks it up as it is, and can deliver.
func (r *Report) exceptable() bool {
	if r.Unasked == nil {
		return r.Conclusion.Outcome != Undeliverable
	}
	notInKey := func(c rune) bool { return notInName(c) || strings.ContainsRune("@/,", c) }
	return r.Key != "" && r.Key[0] != '.' && !errors.Is(r.Unasked, policymap.ErrLongKey) && strings.IndexFunc(r.Key, notInKey) < 0
}
