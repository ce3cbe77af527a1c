//go:build e2e

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// CA is a certification authority.
type CA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	der  []byte
}

func newCA() (*CA, error) {
	template := newTemplate("Lab root")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	key, der, err := issue(template, nil, nil)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{key: key, cert: cert, der: der}, err
}

// PEM returns the certificate that whoever trusts this authority needs.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.der})
}

// Certificate issues a certificate for names.
func (ca *CA) Certificate(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	return ca.certificate(t, func(c *x509.Certificate) { c.DNSNames = names })
}

// Expired issues a certificate for names that ended an hour ago.
func (ca *CA) Expired(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	return ca.certificate(t, func(c *x509.Certificate) {
		c.DNSNames = names
		c.NotAfter = time.Now().Add(-time.Hour)
	})
}

// CommonName issues a certificate that has its name in the subject only.
func (ca *CA) CommonName(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	return ca.certificate(t, func(c *x509.Certificate) { c.Subject.CommonName = name })
}

// SelfSigned makes a certificate for names that no authority has signed.
func SelfSigned(t testing.TB, names ...string) *tls.Certificate {
	t.Helper()
	template := newTemplate("self-signed")
	template.DNSNames = names
	key, der, err := issue(template, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TLSA returns the data of the TLSA record "3 1 1" of a certificate.
func TLSA(t testing.TB, cert *tls.Certificate) string {
	t.Helper()
	parsed, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	return "3 1 1 " + hex.EncodeToString(digest[:])
}

func (ca *CA) certificate(t testing.TB, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	template := newTemplate("lab host")
	change(template)
	key, der, err := issue(template, ca.cert, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		NotBefore:   time.Now().Add(-48 * time.Hour),
		NotAfter:    time.Now().Add(48 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}

// issue makes a key and a certificate for it, signed by itself where there is
// no parent.
func issue(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, fmt.Errorf("making a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return key, der, nil
}
