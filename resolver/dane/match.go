package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Why a certificate does not match.
var (
	// ErrNoMatch: no usable record matches.
	ErrNoMatch = errors.New("no TLSA record matches the certificate")
	// ErrNoChain: the host showed no certificate.
	ErrNoChain = errors.New("the host showed no certificate")
)

// Match says why Postfix would refuse the certificates that a host showed, its
// own first, by TLSA records; nil if one of the records matches. names are
// those that a certificate under a trust anchor may be for (RFC 7672, section
// 3.2.2): the base domain of the records, the host, and the next-hop.
func Match(now time.Time, records []Record, chain []*x509.Certificate, names []string) error {
	if len(chain) == 0 {
		return ErrNoChain
	}
	failure := ErrNoMatch
	for _, r := range records {
		if !r.Usable {
			continue
		}
		err := r.match(now, chain, names)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrNoMatch) {
			failure = err
		}
	}
	return failure
}

func (r Record) match(now time.Time, chain []*x509.Certificate, names []string) error {
	if r.Usage == usageDANEEE {
		// RFC 7672, section 3.1.1: neither names nor dates count.
		if r.matches(chain[0]) {
			return nil
		}
		return ErrNoMatch
	}
	failure := ErrNoMatch
	for _, anchor := range r.anchors(chain) {
		if failure = underAnchor(now, anchor, chain, names); failure == nil {
			return nil
		}
	}
	return failure
}

// anchors returns the certificates that the record makes trust anchors.
func (r Record) anchors(chain []*x509.Certificate) []*x509.Certificate {
	var found []*x509.Certificate
	for _, cert := range chain {
		if r.matches(cert) {
			found = append(found, cert)
		}
	}
	// RFC 7671, section 5.2.2: a whole certificate need not be shown.
	if data, err := hex.DecodeString(r.Data); err == nil && r.Selector == selectorCert && r.MatchingType == matchFull {
		if cert, err := x509.ParseCertificate(data); err == nil && len(found) == 0 {
			found = append(found, cert)
		}
	}
	return found
}

// matches compares a certificate with the record (RFC 6698, section 2.1).
func (r Record) matches(cert *x509.Certificate) bool {
	want, err := hex.DecodeString(r.Data)
	if err != nil {
		return false
	}
	data := cert.Raw
	if r.Selector == selectorSPKI {
		data = cert.RawSubjectPublicKeyInfo
	}
	switch r.MatchingType {
	case matchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return bytes.Equal(data, want)
}

// underAnchor verifies a chain to an anchor, and the name.
func underAnchor(now time.Time, anchor *x509.Certificate, chain []*x509.Certificate, names []string) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(anchor)
	for _, cert := range chain[1:] {
		others.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: others, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return fmt.Errorf("a TLSA record names the authority, but the chain to it is not good: %w", err)
	}
	for _, name := range names {
		if err = chain[0].VerifyHostname(name); err == nil {
			return nil
		}
	}
	return fmt.Errorf("a TLSA record names the authority, but the name in the certificate is another: %w", err)
}
