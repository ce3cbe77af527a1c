package config

import (
	"io/fs"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// key is one key of the file.
type key struct {
	// name is its path, with dots.
	name string
	// comment is one line for people.
	comment string
	value   setting
}

// What limits the durations.
const (
	// maxAnswer: Postfix waits 100 s for an answer (socketmap_table(5)).
	maxAnswer = 90 * time.Second
	// maxFetch: RFC 8461, section 3.3, suggests one minute.
	maxFetch = 10 * time.Minute
	// maxLife is the longest life of a policy (RFC 8461, section 3.2).
	maxLife = 31_557_600 * time.Second

	whyAnswer = "Postfix gives up after 100 s"
	whyFetch  = "a host that is slower than this would only hold connections"
	whyLife   = "no policy lives longer"
)

// keys is the table of all keys, in the order in which they are shown. The keys
// of a section follow each other.
var keys = []key{
	{"listen", "host:port or unix:/path; sockets from systemd are used instead when there are any",
		list[Address]{func(c *Config) *[]Address { return &c.Listen }, listenAddress, formatAddress}},
	{"socket_mode", "of unix sockets",
		scalar[fs.FileMode]{func(c *Config) *fs.FileMode { return &c.SocketMode }, mode, formatMode}},
	{"smart_hosts", "false: keys in brackets are NOTFOUND",
		scalar[bool]{func(c *Config) *bool { return &c.SmartHosts }, boolean, strconv.FormatBool}},

	{"dns.servers", "IP address with or without :port; empty: /etc/resolv.conf, followed when it changes",
		list[netip.AddrPort]{func(c *Config) *[]netip.AddrPort { return &c.DNS.Servers }, nameServer, formatServer}},
	{"dns.timeout", "per try",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.DNS.Timeout }, duration(maxAnswer, whyAnswer), formatDuration}},
	{"dns.attempts", "over all servers",
		scalar[int]{func(c *Config) *int { return &c.DNS.Attempts }, integer(1, 20), strconv.Itoa}},
	{"dns.trust_ad", "true: believe AD from servers that are not on loopback",
		scalar[bool]{func(c *Config) *bool { return &c.DNS.TrustAD }, boolean, strconv.FormatBool}},

	{"sts.answer_within", "how long a first query waits; the fetch goes on",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.STS.AnswerWithin }, duration(maxAnswer, whyAnswer), formatDuration}},
	{"sts.fetch_timeout", "for one fetch of a policy",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.STS.FetchTimeout }, duration(maxFetch, whyFetch), formatDuration}},
	{"sts.ca_file", "empty: the system's roots",
		scalar[string]{func(c *Config) *string { return &c.STS.CAFile }, optionalPath, quote}},
	{"sts.allow_networks", "e.g. [10.0.0.0/8] when policy hosts of yours are inside",
		list[netip.Prefix]{func(c *Config) *[]netip.Prefix { return &c.STS.AllowNetworks }, network, formatNetwork}},
	{"sts.proxy", "http://host:port for policy fetches",
		scalar[*url.URL]{func(c *Config) **url.URL { return &c.STS.Proxy }, proxyURL, formatURL}},

	{"dane.enabled", "false: DANE is not looked at",
		scalar[bool]{func(c *Config) *bool { return &c.DANE.Enabled }, boolean, strconv.FormatBool}},

	{"cache.memory", "entries",
		scalar[int]{func(c *Config) *int { return &c.Cache.Memory }, integer(1, math.MaxInt32), strconv.Itoa}},
	{"cache.disk", "most that the local store may hold",
		scalar[ByteSize]{func(c *Config) *ByteSize { return &c.Cache.Disk }, size(mib), ByteSize.String}},
	{"cache.file", `empty: policies.db in the state directory; "none": no local store`,
		scalar[string]{func(c *Config) *string { return &c.Cache.File }, storePath, quote}},
	{"cache.recheck", "least time between two looks at a domain's TXT id",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.Cache.Recheck }, duration(maxLife, whyLife), formatDuration}},
	{"cache.refresh", "most time between two fetches of a policy",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.Cache.Refresh }, duration(maxLife, whyLife), formatDuration}},
	{"cache.idle", "no refresh for domains unused this long",
		scalar[time.Duration]{func(c *Config) *time.Duration { return &c.Cache.Idle }, duration(maxLife, whyLife), formatDuration}},

	{"cache.shared.url", "redis:// rediss:// redis+sentinel:// redis+cluster://; empty: no shared store",
		scalar[*url.URL]{func(c *Config) **url.URL { return &c.Cache.Shared.URL }, sharedURL, formatURL}},
	{"cache.shared.password_file", "holds the password and nothing else",
		scalar[string]{func(c *Config) *string { return &c.Cache.Shared.PasswordFile }, secretPath, quote}},
	{"cache.shared.ca_file", "empty: the system's roots",
		scalar[string]{func(c *Config) *string { return &c.Cache.Shared.CAFile }, optionalPath, quote}},
	{"cache.shared.cert_file", "certificate to show to the database",
		scalar[string]{func(c *Config) *string { return &c.Cache.Shared.CertFile }, optionalPath, quote}},
	{"cache.shared.key_file", "its private key",
		scalar[string]{func(c *Config) *string { return &c.Cache.Shared.KeyFile }, optionalPath, quote}},
	{"cache.shared.prefix", "of every key in the database",
		scalar[string]{func(c *Config) *string { return &c.Cache.Shared.Prefix }, keyPrefix, quote}},

	{"admin.socket", "empty: admin.sock in the runtime directory",
		scalar[string]{func(c *Config) *string { return &c.Admin.Socket }, optionalSocket, quote}},
	{"admin.http", "e.g. 127.0.0.1:8462 for /metrics /healthz /readyz",
		scalar[Address]{func(c *Config) *Address { return &c.Admin.HTTP }, optionalTCP, formatAddress}},

	{"log.level", "debug, info, warn or error",
		scalar[Level]{func(c *Config) *Level { return &c.Log.Level }, choice(LevelDebug, LevelInfo, LevelWarn, LevelError), formatWord[Level]}},
	{"log.format", "auto, journal, console or json; auto: journal under systemd, console on a terminal, else JSON",
		scalar[Format]{func(c *Config) *Format { return &c.Log.Format }, choice(FormatAuto, FormatJournal, FormatConsole, FormatJSON), formatWord[Format]}},
}

// findKey returns the key of that name.
func findKey(name string) (key, bool) {
	for _, k := range keys {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

// isSection reports whether there are keys below name.
func isSection(name string) bool {
	for _, k := range keys {
		if strings.HasPrefix(k.name, name+".") {
			return true
		}
	}
	return false
}
