package config

// check finds values that do not go together. A fault is reported where the
// file has one of them.
func check(c *Config, seen map[string]position, r *report) {
	at := func(names ...string) position {
		for _, name := range names {
			if p, ok := seen[name]; ok {
				return p
			}
		}
		return position{1, 1}
	}
	if c.Cache.Refresh < c.Cache.Recheck {
		r.add(at("cache.refresh", "cache.recheck"), "", "refresh ("+formatDuration(c.Cache.Refresh)+") is less than recheck ("+
			formatDuration(c.Cache.Recheck)+"): a policy would be fetched more often than its id is looked at", "")
	}
	if c.Cache.Idle < c.Cache.Refresh {
		r.add(at("cache.idle", "cache.refresh"), "", "idle ("+formatDuration(c.Cache.Idle)+") is less than refresh ("+
			formatDuration(c.Cache.Refresh)+"): a domain would count as unused before its first refresh", "")
	}
	if c.Admin.HTTP != (Address{}) {
		for _, a := range c.Listen {
			if a.Network == "tcp" && a.Host == c.Admin.HTTP.Host && a.Port == c.Admin.HTTP.Port {
				r.add(at("admin.http"), c.Admin.HTTP.Written, "this address is in listen too", "")
			}
		}
	}
	if c.Admin.Socket != "" {
		for _, a := range c.Listen {
			if a.Path == c.Admin.Socket {
				r.add(at("admin.socket"), c.Admin.Socket, "this path is in listen too", "")
			}
		}
	}
	checkShared(&c.Cache.Shared, at, r)
}

func checkShared(s *Shared, at func(...string) position, r *report) {
	const section = "cache.shared."
	if s.CertFile != "" && s.KeyFile == "" {
		r.add(at(section+"cert_file"), "", "cert_file is of no use without key_file", "")
	}
	if s.KeyFile != "" && s.CertFile == "" {
		r.add(at(section+"key_file"), "", "key_file is of no use without cert_file", "")
	}
	if s.URL != nil && s.URL.Scheme == "redis" && (s.CAFile != "" || s.CertFile != "") {
		r.add(at(section+"url"), s.URL.String(), "redis:// does not encrypt, so certificates are of no use", "rediss://"+s.URL.Host)
	}
}
