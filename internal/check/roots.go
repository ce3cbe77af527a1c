package check

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// noTLS says that the file of authorities is none: Postfix gives up TLS for that.
// nil if it is one, or if that is not known.
func (c *Checker) noTLS(p *Postfix) []string {
	name := p.Settings[setCAFile]
	if c.o.ReadFile == nil || name == "" {
		return nil
	}
	why := "no certificate in it"
	switch text, err := c.o.ReadFile(inQueue(p.Settings, name)); {
	case errors.Is(err, fs.ErrNotExist):
		why = "no such file"
	case err != nil || bytes.Contains(text, []byte("CERTIFICATE-----")):
		// OpenSSL reads more than Go, such as trusted certificates.
		return nil
	}
	return []string{fmt.Sprintf("%s = %s: %s, so Postfix does no TLS at all: mail that needs it is deferred, all other goes in clear", setCAFile, name, why)}
}

// inQueue returns what Postfix opens under a name: it works in its queue directory.
func inQueue(settings map[string]string, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(settings[setQueue], name)
}

// PostfixRoots returns the authorities that Postfix trusts: those of its file,
// with those of the system where it adds them. Where Postfix has no file of its
// own, or one that cannot be read here, or there is no Postfix, those of the system
// stand for them.
func PostfixRoots(ctx context.Context, postconf Postconf) *x509.CertPool {
	system, err := x509.SystemCertPool()
	if err != nil {
		system = x509.NewCertPool()
	}
	if postconf == nil {
		return system
	}
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	all, err := postconf(ctx, setCAFile, setCAPath, setDefaultCAs, setQueue)
	settings := all.Values
	if err != nil || settings[setCAFile] == "" {
		return system
	}
	text, err := os.ReadFile(inQueue(settings, settings[setCAFile]))
	if err != nil {
		return system
	}
	pool := system
	if settings[setDefaultCAs] != "yes" && settings[setCAPath] == "" {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return system
	}
	return pool
}
