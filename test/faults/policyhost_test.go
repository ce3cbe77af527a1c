package faults

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// policyHost serves the policy of the domain over TLS, from any address, in
// memory.
type policyHost struct {
	config *tls.Config
	// roots is the file of the authority that vouches for it.
	roots string
	// networks are those that its addresses lie in.
	networks []netip.Prefix
}

func newPolicyHost(t *testing.T) *policyHost {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The certificate is its own authority. Its life spans the clock of today
	// and that of a bubble of testing/synctest, which begins in 2000.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "policy host"}, DNSNames: []string{"mta-sts." + domain},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &policyHost{
		config:   &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		roots:    roots,
		networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
}

// dialer connects to the host, which has a policy in a mode.
func (h *policyHost) dialer(mode string) func(context.Context, string, string) (net.Conn, error) {
	text := "version: STSv1\nmode: " + mode + "\nmx: mx.example.test\nmax_age: 604800\n"
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go h.serve(theirs, text)
		return ours, nil
	}
}

// serve answers one request. What goes wrong ends the connection, which the
// client sees.
func (h *policyHost) serve(conn net.Conn, text string) {
	defer conn.Close() // A pipe cannot fail to close.
	secure := tls.Server(conn, h.config)
	r, err := http.ReadRequest(bufio.NewReader(secure))
	if err != nil || r.URL.Path != "/.well-known/mta-sts.txt" {
		return
	}
	_, err = fmt.Fprintf(secure, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
	if err == nil {
		_ = secure.Close() // As above.
	}
}
