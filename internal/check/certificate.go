package check

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"tlspolicyd/resolver/policy"
)

// trusted verifies the chain, without a look at names.
func trusted(now time.Time, roots *x509.CertPool, chain []*x509.Certificate) error {
	others := x509.NewCertPool()
	for _, cert := range chain[1:] {
		others.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// untrusted says for people why a certificate is not trusted.
func untrusted(now time.Time, cert *x509.Certificate, err error) string {
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case now.Before(cert.NotBefore):
		return "the certificate is not valid before " + stamp(cert.NotBefore)
	case now.After(cert.NotAfter):
		return "the certificate has expired on " + stamp(cert.NotAfter)
	case isUnknown && cert.Issuer.String() == cert.Subject.String():
		return "the certificate is signed by nobody but its holder"
	case isUnknown:
		return fmt.Sprintf("the certificate is not signed by a known authority (issuer %q), or an intermediate certificate is missing", cert.Issuer)
	default:
		return "the certificate cannot be trusted: " + err.Error()
	}
}

// certNames returns the names that Postfix looks at: those of the extension, or,
// if it has none, the common name.
func certNames(cert *x509.Certificate) []string {
	if len(cert.DNSNames) > 0 {
		return cert.DNSNames
	}
	if cert.Subject.CommonName != "" {
		return []string{cert.Subject.CommonName}
	}
	return nil
}

// matchesAny reports whether one of the names in a certificate is for host. A
// wildcard stands for one label, as with tls_wildcard_matches_multiple_labels
// off, and as with the first label of a host.
func matchesAny(names []string, host string) bool {
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name == host {
			return true
		}
		_, parent, _ := strings.Cut(host, ".")
		if rest, wildcard := strings.CutPrefix(name, "*."); wildcard && rest == parent && rest != "" {
			return true
		}
	}
	return false
}

// meets reports whether the certificate of names meets one of the patterns.
func meets(names []string, patterns []policy.MXPattern) bool {
	for _, p := range patterns {
		if matchesPattern(names, p) {
			return true
		}
	}
	return false
}

// matchesPattern reports whether one of the names meets match=: a host, or with
// a dot before it any name below a domain, at any depth.
func matchesPattern(names []string, pattern policy.MXPattern) bool {
	suffix, wildcard := pattern.Suffix()
	if !wildcard {
		return matchesAny(names, pattern.String())
	}
	for _, name := range names {
		if name = strings.ToLower(name); len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
