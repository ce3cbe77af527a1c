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
	file, why := name, "no certificate in it"
	if !filepath.IsAbs(file) { // Postfix works in its queue directory.
		file = filepath.Join(p.Settings[setQueue], file)
	}
	switch text, err := c.o.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
		why = "no such file"
	case err != nil || bytes.Contains(text, []byte("CERTIFICATE-----")):
		// OpenSSL reads more than Go, such as trusted certificates.
		return nil
	}
	return []string{fmt.Sprintf("%s = %s: %s, so Postfix does no TLS at all: mail that needs it is deferred, all other goes in clear", setCAFile, name, why)}
}

// PostfixRoots returns the authorities that Postfix trusts: those of its file,
// with those of the system where it adds them. Where Postfix has no file of its
// own, or there is no Postfix, those of the system stand for them.
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
	all, err := postconf(ctx, setCAFile, setCAPath, setDefaultCAs)
	settings := all.Values
	if err != nil || settings[setCAFile] == "" {
		return system
	}
	text, err := os.ReadFile(settings[setCAFile])
	if err != nil {
		return system
	}
	pool := system
	if settings[setDefaultCAs] != "yes" && settings[setCAPath] == "" {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(text)
	return pool
}
