package policymap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"tlspolicyd/resolver/policy"
)

// Why a key is no next-hop. Any error of [policy.ParseDomain] is another
// reason.
var (
	ErrEmptyKey   = errors.New("empty key")
	ErrLongKey    = errors.New("key is too long")
	ErrParentKey  = errors.New("parent domain")
	ErrSmartHost  = errors.New("smart hosts are not looked at")
	ErrBrackets   = errors.New("malformed brackets")
	ErrBadService = errors.New("neither a port nor a service")
)

// maxKey is the longest key that is read, in bytes. A name of 253 letters and
// digits is shorter, however it is spelt.
const maxKey = 1024

// KeyRules say how keys are read. The zero value reads all.
type KeyRules struct {
	// NoSmartHosts refuses keys in brackets.
	NoSmartHosts bool
	// Port returns the TCP port of a service by its name, 0 if it has none;
	// nil means that of the system, from /etc/services.
	Port func(service string) uint16
}

// ParseKey reads a next-hop as Postfix writes it: a domain, or a host in
// brackets, and either with a colon and a port or a service.
//
// RFC 8461, section 3.4: the policy domain of a smart host is its own name;
// the parent of a domain has no say, and an address literal has no policy.
func ParseKey(key string, rules KeyRules) (policy.NextHop, error) {
	switch {
	case key == "":
		return policy.NextHop{}, ErrEmptyKey
	case key[0] == '.':
		return policy.NextHop{}, ErrParentKey
	case len(key) > maxKey:
		return policy.NextHop{}, ErrLongKey
	case key[0] == '[' && rules.NoSmartHosts:
		return policy.NextHop{}, ErrSmartHost
	}
	host, service, err := splitKey(key)
	if err != nil {
		return policy.NextHop{}, err
	}
	domain, err := policy.ParseDomain(host)
	if err != nil {
		return policy.NextHop{}, err
	}
	port, err := rules.port(service)
	if err != nil {
		return policy.NextHop{}, err
	}
	return policy.NextHop{Domain: domain, Port: port, SmartHost: key[0] == '['}, nil
}

// splitKey splits a key into the host and what follows it: nothing, or a colon
// and a service.
func splitKey(key string) (host, service string, err error) {
	if inner, ok := strings.CutPrefix(key, "["); ok {
		host, service, ok = strings.Cut(inner, "]")
		if !ok || service != "" && service[0] != ':' {
			return "", "", fmt.Errorf("%w: %q", ErrBrackets, key)
		}
		return host, service, nil
	}
	if i := strings.IndexByte(key, ':'); i >= 0 {
		return key[:i], key[i:], nil
	}
	return key, "", nil
}

// port reads a colon and a port or a service, or nothing.
func (r KeyRules) port(service string) (uint16, error) {
	service, given := strings.CutPrefix(service, ":")
	if !given {
		return policy.SMTPPort, nil
	}
	if !isService(service) {
		return 0, fmt.Errorf("%w: %q", ErrBadService, service)
	}
	if strings.Trim(service, "0123456789") == "" {
		port, err := strconv.ParseUint(service, 10, 16)
		if err != nil || port == 0 {
			return 0, fmt.Errorf("%w: port %q", ErrBadService, service)
		}
		return uint16(port), nil
	}
	name := strings.ToLower(service)
	switch name {
	case "smtp":
		return policy.SMTPPort, nil
	case "submission":
		return 587, nil
	case "submissions", "smtps":
		return 465, nil
	}
	if r.Port == nil {
		return systemPort(name), nil
	}
	return r.Port(name), nil
}

// maxService is the longest name of a service, in bytes.
const maxService = 63

// isService reports whether s consists of letters, digits and hyphens.
func isService(s string) bool {
	if s == "" || len(s) > maxService {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '-' {
			return false
		}
	}
	return true
}

// systemPort looks a service up in /etc/services, which is read once in the
// life of the process.
func systemPort(name string) uint16 {
	resolver := net.Resolver{PreferGo: true} // the file, and nothing that may wait
	port, err := resolver.LookupPort(context.Background(), "tcp", name)
	if err != nil {
		return 0
	}
	return uint16(port)
}
