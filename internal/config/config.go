package config

import (
	"io/fs"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"
)

// DefaultPath is where the configuration is looked for when no file is named.
const DefaultPath = "/etc/tlspolicyd/tlspolicyd.yaml"

// Config is a configuration without errors. Empty lists are nil.
type Config struct {
	// Listen holds the addresses of the socketmap service; none means that
	// there are only the sockets that systemd hands over.
	Listen []Address
	// SocketMode is the mode of the Unix sockets among them.
	SocketMode fs.FileMode
	// SmartHosts says whether keys in brackets are answered.
	SmartHosts bool
	DNS        DNS
	STS        STS
	DANE       DANE
	Cache      Cache
	Admin      Admin
	Log        Log
}

// DNS is the section dns.
type DNS struct {
	// Servers are the name servers; none means those of /etc/resolv.conf.
	Servers  []netip.AddrPort
	Timeout  time.Duration
	Attempts int
	// TrustAD says that the AD bit of servers that are not on loopback
	// counts.
	TrustAD bool
}

// STS is the section sts.
type STS struct {
	AnswerWithin time.Duration
	FetchTimeout time.Duration
	// CAFile is a file of trusted certificates; empty means the system's.
	CAFile string
	// AllowNetworks are networks in which policy hosts may be, though they
	// are not public.
	AllowNetworks []netip.Prefix
	// Proxy is an HTTP proxy for policy fetches; nil means none.
	Proxy *url.URL
}

// DANE is the section dane.
type DANE struct {
	Enabled bool
}

// Cache is the section cache.
type Cache struct {
	// Memory is a number of entries.
	Memory int
	// Disk is the most that the local store may hold.
	Disk ByteSize
	// File is the path of the local store, empty for the one in the state
	// directory, or "none"; see [Cache.StoreFile].
	File    string
	Recheck time.Duration
	Refresh time.Duration
	Idle    time.Duration
	Shared  Shared
}

// Shared is the section cache.shared. The files are absolute paths; empty means
// that there is none.
type Shared struct {
	// URL is the database; nil means that no memory is shared. Its scheme is
	// redis, redis+sentinel or redis+cluster, or, with TLS, rediss,
	// rediss+sentinel or rediss+cluster, and it never carries a password.
	// With sentinels and clusters, Host may hold several names or IPv4
	// addresses with their ports and commas between; with sentinels, the
	// first element of Path is the name of the service.
	URL          *url.URL
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
	// Prefix stands before every key in the database.
	Prefix string
}

// Admin is the section admin.
type Admin struct {
	// Socket is the path of the admin socket, empty for the one in the
	// runtime directory; see [Admin.SocketPath].
	Socket string
	// HTTP is a TCP address for metrics and health; the zero value means
	// that there is none.
	HTTP Address
}

// Log is the section log.
type Log struct {
	Level  Level
	Format Format
}

// Level is the least level that is logged.
type Level string

// The levels.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

// Format is how the log is written.
type Format string

// The formats.
const (
	// FormatAuto is journal under systemd, console on a terminal, else JSON.
	FormatAuto    Format = "auto"
	FormatJournal Format = "journal"
	FormatConsole Format = "console"
	FormatJSON    Format = "json"
)

// noStore is the value of cache.file that means no local store.
const noStore = "none"

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		Listen:     []Address{{Network: "tcp", Host: "127.0.0.1", Port: 8461, Written: "127.0.0.1:8461"}},
		SocketMode: 0o666,
		SmartHosts: true,
		DNS:        DNS{Timeout: 2 * time.Second, Attempts: 3},
		STS:        STS{AnswerWithin: 10 * time.Second, FetchTimeout: time.Minute},
		DANE:       DANE{Enabled: true},
		Cache: Cache{
			Memory:  100_000,
			Disk:    2 * gib,
			Recheck: time.Minute,
			Refresh: 24 * time.Hour,
			Idle:    720 * time.Hour,
			Shared:  Shared{Prefix: "tlspolicyd:"},
		},
		Log: Log{Level: LevelInfo, Format: FormatAuto},
	}
}

// StoreFile returns the path of the local store, given the state directory, and
// false if there is to be none.
func (c *Cache) StoreFile(stateDir string) (string, bool) {
	switch c.File {
	case noStore:
		return "", false
	case "":
		return filepath.Join(stateDir, "policies.db"), true
	default:
		return c.File, true
	}
}

// SocketPath returns the path of the admin socket, given the runtime directory.
func (a *Admin) SocketPath(runtimeDir string) string {
	if a.Socket == "" {
		return filepath.Join(runtimeDir, "admin.sock")
	}
	return a.Socket
}
