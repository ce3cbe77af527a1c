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

// sharedURL reads the address of a shared store, or nothing.
func sharedURL(w word) (*url.URL, error) {
	u, err := parseURL(w, "redis", "rediss", "redis+sentinel")
	if u == nil || err != nil {
		return nil, err
	}
	if _, has := u.User.Password(); has {
		return nil, bad("a password does not stand in this file: write it into a file of its own, and that into password_file")
	}
	hosts := strings.Split(u.Host, ",")
	if u.Scheme != "redis+sentinel" && len(hosts) > 1 {
		return nil, bad("several hosts go with redis+sentinel:// only")
	}
	for _, h := range hosts {
		if err := checkHostPort(h); err != nil {
			return nil, err
		}
	}
	return u, checkSharedPath(u)
}

// checkSharedPath checks what follows the host: the number of a database, and
// before it the name of the service that sentinels watch.
func checkSharedPath(u *url.URL) error {
	db := strings.TrimPrefix(u.Path, "/")
	if u.Scheme == "redis+sentinel" {
		service, rest, _ := strings.Cut(db, "/")
		if service == "" {
			return bad("the name of the service is missing: redis+sentinel://host:port,host:port/service")
		}
		if strings.HasSuffix(db, "/") {
			return bad("there is a slash too many at the end")
		}
		db = rest
	} else if u.Path == "/" {
		return bad("there is a slash too many at the end")
	}
	if n, err := strconv.ParseUint(db, 10, 15); db != "" && (err != nil || strconv.FormatUint(n, 10) != db) {
		return bad("what follows the last slash is the number of a database, such as 0")
	}
	return nil
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

// keyPrefix reads what stands before every key of a shared store.
func keyPrefix(w word) (string, error) {
	s, err := w.asText()
	if err != nil {
		return "", err
	}
	if s == "" || len(s) > maxKeyPrefix || strings.ContainsAny(s, " *?[]{}\\") {
		return "", bad("a prefix has 1 to %d bytes, without blanks, braces and the signs of patterns", maxKeyPrefix)
	}
	return s, nil
}

const maxKeyPrefix = 64
