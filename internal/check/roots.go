package check

import (
	"context"
	"crypto/x509"
	"os"
)

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
