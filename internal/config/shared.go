package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// The schemes of cache.shared.url: one server, one that sentinels name, and a
// cluster; each in clear and with TLS.
var sharedSchemes = []string{
	"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
}

// sharedURL reads the address of a shared store, or nothing.
func sharedURL(w word) (*url.URL, error) {
	u, err := parseURL(w, sharedSchemes...)
	if u == nil || err != nil {
		return nil, err
	}
	if _, has := u.User.Password(); has {
		return nil, bad("a password does not stand in this file: write it into a file of its own, and that into password_file")
	}
	_, kind, _ := strings.Cut(u.Scheme, "+")
	hosts := strings.Split(u.Host, ",")
	if kind == "" && len(hosts) > 1 {
		return nil, bad("several hosts go with %[1]s+sentinel:// and %[1]s+cluster:// only", u.Scheme)
	}
	for _, h := range hosts {
		if err := checkHostPort(h); err != nil {
			return nil, err
		}
	}
	return u, checkSharedPath(kind, u)
}

// checkSharedPath checks what follows the host: the number of a database, and
// before it the name of the service that sentinels watch.
func checkSharedPath(kind string, u *url.URL) error {
	db := strings.TrimPrefix(u.Path, "/")
	if kind == "sentinel" {
		service, rest, _ := strings.Cut(db, "/")
		if service == "" {
			return bad("the name of the service is missing: %s://host:port,host:port/service", u.Scheme)
		}
		if strings.HasSuffix(db, "/") {
			return bad("there is a slash too many at the end")
		}
		db = rest
	} else if u.Path == "/" {
		return bad("there is a slash too many at the end")
	}
	if db == "" {
		return nil
	}
	if kind == "cluster" {
		return bad("a cluster has no numbered databases: nothing follows the hosts")
	}
	if n, err := strconv.ParseUint(db, 10, 15); err != nil || strconv.FormatUint(n, 10) != db {
		return bad("what follows the last slash is the number of a database, such as 0")
	}
	return nil
}

// TLS says whether the connection to the database is encrypted.
func (s *Shared) TLS() bool {
	return s.URL != nil && slices.Contains([]string{"rediss", "rediss+sentinel", "rediss+cluster"}, s.URL.Scheme)
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
