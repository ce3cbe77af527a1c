package check

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// The names in a certificate and the name of the host: a wildcard is one label.
func TestNamesThatAreForAHost(t *testing.T) {
	for _, tt := range []struct {
		names, host string
		want        bool
	}{
		{"mx.example.com", "mx.example.com", true},
		{"MX.Example.COM.", "mx.example.com", true},
		{"other.example.com mx.example.com", "mx.example.com", true},
		{"*.example.com", "mx.example.com", true},
		{"*.Example.com", "mx.example.com", true},
		{"*.example.com", "a.mx.example.com", false},
		{"*.example.com", "example.com", false},
		{"example.com", "mx.example.com", false},
		{"m*.example.com", "mx.example.com", false},
		{"mx.*.com", "mx.example.com", false},
		{"*", "mx.example.com", false},
		{"*.", "mx", false},
		{"", "mx.example.com", false},
	} {
		if got := matchesAny(strings.Fields(tt.names), tt.host); got != tt.want {
			t.Errorf("%q for %q: got %v, want %v", tt.names, tt.host, got, tt.want)
		}
	}
}

// match= as Postfix reads it: ".example.net" is any name below, at any depth.
func TestNamesThatMeetAPattern(t *testing.T) {
	for _, tt := range []struct {
		names, pattern string
		want           bool
	}{
		{"mx.example.com", "mx.example.com", true},
		{"*.example.com", "mx.example.com", true},
		{"other.example.com", "mx.example.com", false},
		{"mx.example.net", "*.example.net", true},
		{"a.b.example.net", "*.example.net", true},
		{"*.example.net", "*.example.net", true},
		{"example.net", "*.example.net", false},
		{"badexample.net", "*.example.net", false},
		{"mx.example.org x.example.net", "*.example.net", true},
		{"", "*.example.net", false},
	} {
		p, err := policy.ParseMXPattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := meets(strings.Fields(tt.names), []policy.MXPattern{p}); got != tt.want {
			t.Errorf("%q for %q: got %v, want %v", tt.names, tt.pattern, got, tt.want)
		}
	}
}

func TestWhyACertificateIsNotTrusted(t *testing.T) {
	now := time.Now()
	cert := &x509.Certificate{NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)}
	err := x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}
	if got := untrusted(now, cert, err); !strings.HasPrefix(got, "the certificate is not valid before 20") {
		t.Errorf("got %q", got)
	}
	cert.NotBefore = now.Add(-time.Hour)
	err.Reason = x509.IncompatibleUsage
	if got := untrusted(now, cert, err); !strings.HasPrefix(got, "the certificate cannot be trusted: ") {
		t.Errorf("got %q", got)
	}
}
