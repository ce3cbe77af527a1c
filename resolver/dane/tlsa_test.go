package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(der), hex.EncodeToString(spki)
}

func TestUsable(t *testing.T) {
	cert, key := certificate(t)
	sha256, sha512 := strings.Repeat("ab", 32), strings.Repeat("ab", 64)
	for _, tt := range []struct {
		usage, selector, match uint8
		data                   string
		want                   bool
	}{
		{3, 1, 1, sha256, true},
		{2, 0, 1, sha256, true},
		{3, 0, 2, sha512, true},
		{3, 0, 0, cert, true},
		{2, 1, 0, key, true},
		{0, 0, 1, sha256, false},
		{1, 1, 1, sha256, false},
		{4, 1, 1, sha256, false},
		{255, 1, 1, sha256, false},
		{3, 2, 1, sha256, false},
		{3, 7, 1, sha256, false},
		{3, 1, 3, sha256, false},
		{3, 1, 9, sha256, false},
		{3, 1, 1, sha256[2:], false},
		{3, 1, 1, sha512, false},
		{3, 1, 2, sha256, false},
		{3, 1, 1, "", false},
		{3, 0, 0, "", false},
		{3, 0, 0, sha256, false},
		{3, 0, 0, key, false},
		{3, 1, 0, cert, false},
		{3, 0, 0, cert + "00", false},
		{3, 1, 0, key + "00", false},
		{3, 1, 0, key[:len(key)-2], false},
		{3, 1, 1, "not hexadecimal", false},
	} {
		r := &dns.TLSA{Usage: tt.usage, Selector: tt.selector, MatchingType: tt.match, Certificate: tt.data}
		if got := usable(r); got != tt.want {
			t.Errorf("%d %d %d %.20q: usable %v, want %v", tt.usage, tt.selector, tt.match, tt.data, got, tt.want)
		}
	}
}
