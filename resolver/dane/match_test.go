package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"testing"
	"time"
)

var matchNow = time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC)

// issue makes a certificate, signed by parent, or by itself without one.
func issue(t *testing.T, name string, ends time.Time, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: matchNow.AddDate(-1, 0, 0), NotAfter: ends,
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestMatch(t *testing.T) {
	ends, ended := matchNow.AddDate(1, 0, 0), matchNow.AddDate(0, -1, 0)
	ca, caKey := issue(t, "Anchor", ends, nil, nil)
	good, _ := issue(t, "mx.example.com", ends, ca, caKey)
	old, _ := issue(t, "mx.example.com", ended, ca, caKey)
	other, _ := issue(t, "other.example.net", ends, ca, caKey)

	sum256 := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	sum512 := func(b []byte) string { s := sha512.Sum512(b); return hex.EncodeToString(s[:]) }
	one := func(usage, selector, matching uint8, data string) []Record {
		return []Record{{usage, selector, matching, data, true}}
	}
	for _, tt := range []struct {
		name    string
		records []Record
		chain   []*x509.Certificate
		want    bool
	}{
		{"3 1 1", one(3, 1, 1, sum256(good.RawSubjectPublicKeyInfo)), []*x509.Certificate{good}, true},
		{"3 1 2", one(3, 1, 2, sum512(good.RawSubjectPublicKeyInfo)), []*x509.Certificate{good}, true},
		{"3 0 1", one(3, 0, 1, sum256(good.Raw)), []*x509.Certificate{good}, true},
		{"3 0 0", one(3, 0, 0, hex.EncodeToString(good.Raw)), []*x509.Certificate{good}, true},
		{"3 1 1 of another key", one(3, 1, 1, sum256(old.RawSubjectPublicKeyInfo)), []*x509.Certificate{good}, false},
		{"3 1 1 does not look at dates", one(3, 1, 1, sum256(old.RawSubjectPublicKeyInfo)), []*x509.Certificate{old}, true},
		{"3 1 1 does not look at names", one(3, 1, 1, sum256(other.RawSubjectPublicKeyInfo)), []*x509.Certificate{other}, true},
		{"3 1 1 looks at the host's certificate only", one(3, 1, 1, sum256(ca.RawSubjectPublicKeyInfo)), []*x509.Certificate{good, ca}, false},
		{"2 1 1", one(2, 1, 1, sum256(ca.RawSubjectPublicKeyInfo)), []*x509.Certificate{good, ca}, true},
		{"2 0 1", one(2, 0, 1, sum256(ca.Raw)), []*x509.Certificate{good, ca}, true},
		{"2 0 1 with an authority that is not shown", one(2, 0, 1, sum256(ca.Raw)), []*x509.Certificate{good}, false},
		{"2 0 0 with an authority that is not shown", one(2, 0, 0, hex.EncodeToString(ca.Raw)), []*x509.Certificate{good}, true},
		{"2 1 1 looks at dates", one(2, 1, 1, sum256(ca.RawSubjectPublicKeyInfo)), []*x509.Certificate{old, ca}, false},
		{"2 1 1 looks at names", one(2, 1, 1, sum256(ca.RawSubjectPublicKeyInfo)), []*x509.Certificate{other, ca}, false},
		{"the second record", append(one(3, 1, 1, sum256(old.Raw)), one(3, 1, 1, sum256(good.RawSubjectPublicKeyInfo))...), []*x509.Certificate{good}, true},
		{"an unusable record", []Record{{3, 1, 1, sum256(good.RawSubjectPublicKeyInfo), false}}, []*x509.Certificate{good}, false},
		{"no record", nil, []*x509.Certificate{good}, false},
		{"no certificate", one(3, 1, 1, sum256(good.RawSubjectPublicKeyInfo)), nil, false},
	} {
		err := Match(matchNow, tt.records, tt.chain, []string{"example.com", "mx.example.com"})
		if (err == nil) != tt.want {
			t.Errorf("%s: got %v, want a match: %v", tt.name, err, tt.want)
		}
	}
	if err := Match(matchNow, nil, nil, nil); !errors.Is(err, ErrNoChain) {
		t.Errorf("got %v, want %v", err, ErrNoChain)
	}
}
