//go:build e2e

package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// authority issues a certificate to whoever is asked for. All hosts share one
// key, so that thousands of them cost a signature each.
type authority struct {
	key, hostKey *ecdsa.PrivateKey
	cert         *x509.Certificate
	der          []byte
}

func newAuthority() (*authority, error) {
	a := &authority{}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if a.hostKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	root := template("World root")
	root.IsCA, root.BasicConstraintsValid = true, true
	root.KeyUsage = x509.KeyUsageCertSign
	if a.der, err = x509.CreateCertificate(rand.Reader, root, root, a.key.Public(), a.key); err != nil {
		return nil, fmt.Errorf("signing the root: %w", err)
	}
	a.cert, err = x509.ParseCertificate(a.der)
	return a, err
}

// pem returns the certificate that whoever trusts the authority needs.
func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
}

// certificate issues a certificate for a host.
func (a *authority) certificate(name string) (*tls.Certificate, error) {
	return a.issue(name, a.cert, a.key)
}

// untrusted makes a certificate for a host that no authority has signed.
func (a *authority) untrusted(name string) (*tls.Certificate, error) {
	return a.issue(name, nil, a.hostKey)
}

func (a *authority) issue(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*tls.Certificate, error) {
	c := template("host")
	c.DNSNames = []string{name}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, a.hostKey.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.hostKey}, nil
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     time.Now().Add(48 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
}
