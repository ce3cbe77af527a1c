package redisstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Options say where the database is and how to be let in. There is no default
// for URL; the other zero fields mean "none", or what they say.
type Options struct {
	// URL is one of
	//
	//	redis://[user@]host[:port][/database]
	//	redis+sentinel://[user@]host[:port][,host[:port]...]/service[/database]
	//	redis+cluster://[user@]host[:port][,host[:port]...]
	//
	// or the same with rediss, for TLS. It carries no password.
	URL *url.URL
	// PasswordFile holds the password of the user, and a new line after it or
	// not. It is read for every connection.
	PasswordFile string
	// CAFile holds the authorities that are believed about the server, in PEM;
	// empty means those of the system.
	CAFile string
	// CertFile and KeyFile hold the certificate to show, and its key, in PEM.
	CertFile, KeyFile string
	// Prefix stands before every key and channel; empty means "tlspolicyd:".
	Prefix string
	// Log is told when the state of the store changes; nil means nobody.
	Log *zap.Logger

	// timeout is what a call may take; 0 means 250 ms.
	timeout time.Duration
}

// DefaultPrefix is what keys begin with if Options do not say.
const DefaultPrefix = "tlspolicyd:"

// callTimeout is the most that a call may take in all: finding a connection or
// making one, asking, reading the answer. It is much shorter than the patience
// of who asks for a policy, and much longer than a sound server takes.
const callTimeout = 250 * time.Millisecond

// maxPassword is the most that a file with a password may hold.
const maxPassword = 8 << 10

// target is what a URL names.
type target struct {
	hosts   []string // with their ports
	service string   // of sentinels; else empty
	cluster bool
	tls     bool
	db      int
	user    string
}

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

var errURL = errors.New("no address of a database that is understood")

// parseTarget reads the URL of Options.
func parseTarget(u *url.URL) (target, error) {
	if u == nil || u.Host == "" {
		return target{}, errURL
	}
	scheme, kind, _ := strings.Cut(u.Scheme, "+")
	t := target{tls: scheme == "rediss", cluster: kind == "cluster", user: u.User.Username()}
	port, path := defaultPort, strings.TrimPrefix(u.Path, "/")
	if kind == "sentinel" {
		port = defaultSentinelPort
		t.service, path, _ = strings.Cut(path, "/")
	}
	for _, h := range strings.Split(u.Host, ",") {
		t.hosts = append(t.hosts, withPort(h, port))
	}
	if path != "" {
		db, err := strconv.ParseUint(path, 10, 15)
		if err != nil {
			return target{}, errURL
		}
		t.db = int(db)
	}
	if scheme != "redis" && scheme != "rediss" || !t.fits(kind) {
		return target{}, errURL
	}
	return t, nil
}

// fits reports whether t has what that kind of database needs, and no more.
func (t *target) fits(kind string) bool {
	switch kind {
	case "":
		return len(t.hosts) == 1
	case "sentinel":
		return t.service != ""
	case "cluster":
		return t.db == 0
	}
	return false
}

// withPort returns host:port for host[:port], where an IPv6 address stands in
// brackets.
func withPort(host, port string) string {
	if strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']') {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// address names the database for people: the URL without the user.
func address(u *url.URL) string {
	shown := *u
	shown.User = nil
	return shown.String()
}

// password returns the password of the file; empty where there is no file.
func (o *Options) password() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	f, err := os.Open(o.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("password_file: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if password == "" || len(b) > maxPassword || strings.ContainsAny(password, "\r\n\x00") {
		return "", fmt.Errorf("password_file: %s does not hold one line with the password", o.PasswordFile)
	}
	return password, nil
}

// exposed reports whether everybody on this machine can read the password.
func (o *Options) exposed() bool {
	info, err := os.Stat(o.PasswordFile)
	return o.PasswordFile != "" && err == nil && info.Mode().Perm()&0o004 != 0
}

// tlsConfig reads the files for a connection to the server of that name. It is
// done for each, so that a certificate can be renewed without a restart.
func (o *Options) tlsConfig(server string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", o.CAFile)
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// check reads every file once.
func (o *Options) check(t target) error {
	if _, err := o.password(); err != nil {
		return err
	}
	if !t.tls {
		return nil
	}
	_, err := o.tlsConfig("")
	return err
}
