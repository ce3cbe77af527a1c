package config

import (
	"fmt"
	"strings"
)

// checker finds values that do not go together. A fault is reported where the
// file has one of them.
type checker struct {
	seen   map[string]position
	report *report
}

func check(c *Config, seen map[string]position, r *report) {
	k := checker{seen, r}
	k.times(&c.Cache)
	k.listeners(c)
	k.shared(&c.Cache.Shared)
}

// at returns where the first of the keys stands that the file has.
func (k checker) at(names ...string) position {
	for _, name := range names {
		if p, ok := k.seen[name]; ok {
			return p
		}
	}
	return position{1, 1}
}

func (k checker) times(c *Cache) {
	if c.Refresh < c.Recheck {
		k.report.add(k.at("cache.refresh", "cache.recheck"), "",
			fmt.Sprintf("refresh (%s) is less than recheck (%s): a policy would be fetched more often than its id is looked at",
				formatDuration(c.Refresh), formatDuration(c.Recheck)), "")
	}
	if c.Idle < c.Refresh {
		k.report.add(k.at("cache.idle", "cache.refresh"), "",
			fmt.Sprintf("idle (%s) is less than refresh (%s): a domain would count as unused before its first refresh",
				formatDuration(c.Idle), formatDuration(c.Refresh)), "")
	}
}

// listeners finds addresses that are to be used twice.
func (k checker) listeners(c *Config) {
	for _, a := range c.Listen {
		if a.Network == "unix" && a.Path == c.Admin.Socket {
			k.report.add(k.at("admin.socket"), a.Path, "this path is in listen too", "")
		}
		if h := c.Admin.HTTP; a.Network == "tcp" && a.Host == h.Host && a.Port == h.Port {
			k.report.add(k.at("admin.http"), h.Written, "this address is in listen too", "")
		}
	}
}

// section is where the keys of a shared store stand.
const section = "cache.shared."

func (k checker) shared(s *Shared) {
	if s.CertFile != "" && s.KeyFile == "" {
		k.report.add(k.at(section+"cert_file"), "", "cert_file is of no use without key_file", "")
	}
	if s.KeyFile != "" && s.CertFile == "" {
		k.report.add(k.at(section+"key_file"), "", "key_file is of no use without cert_file", "")
	}
	if s.URL != nil {
		k.sharedURL(s)
	}
}

// sharedURL finds keys that do not go with the address of a shared store.
func (k checker) sharedURL(s *Shared) {
	if !s.TLS() && (s.CAFile != "" || s.CertFile != "") {
		inClear := s.URL.String()
		k.report.add(k.at(section+"url"), inClear, s.URL.Scheme+":// does not encrypt, so certificates are of no use", strings.Replace(inClear, "redis", "rediss", 1))
	}
	if s.URL.User.Username() != "" && s.PasswordFile == "" {
		k.report.add(k.at(section+"url"), s.URL.String(), "a user is of no use without password_file", "")
	}
}
