package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// proxyURL reads http://host:port, or nothing.
func proxyURL(w word) (*url.URL, error) {
	u, err := parseURL(w, "http")
	if u == nil || err != nil {
		return nil, err
	}
	if u.User != nil {
		return nil, bad("a proxy that wants a user or a password is not supported")
	}
	if u.Path != "" {
		return nil, instead("http://"+u.Host, "a proxy is http://host:port, with nothing after it")
	}
	if u.Port() == "" {
		return nil, bad("the port of the proxy is missing: http://host:port")
	}
	return u, checkHostPort(u.Host)
}

// parseURL reads a URL with one of the schemes; an empty word is nil.
func parseURL(w word, schemes ...string) (*url.URL, error) {
	s, err := w.asText()
	if s == "" || err != nil {
		return nil, err
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.String() != s {
		return nil, bad("this is no URL of the form %s://host:port", schemes[0])
	}
	return u, checkParts(u, schemes)
}

// checkParts checks that a URL has a scheme that is understood, a host, and
// nothing that is not.
func checkParts(u *url.URL, schemes []string) error {
	switch {
	case !slices.Contains(schemes, u.Scheme):
		return bad("this must begin with %s", strings.Join(schemes, "://, ")+"://")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("nothing is understood after ? or #")
	case u.Host == "":
		return bad("the host is missing: %s://host:port", u.Scheme)
	}
	return nil
}

// checkHostPort checks host[:port] of a URL.
func checkHostPort(s string) error {
	host := s
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		host = s[:i]
		if n, err := strconv.ParseUint(s[i+1:], 10, 16); err != nil || n == 0 {
			return bad("the port is a number from 1 to 65535")
		}
	}
	if strings.HasPrefix(host, "[") {
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err != nil || !a.Is6() {
			return bad("only an IPv6 address stands in brackets")
		}
		return nil
	}
	if !isHost(host) || strings.Contains(host, ":") {
		return bad("this names no host")
	}
	return nil
}
