package dane

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"

	"github.com/miekg/dns"
)

// The parameters of a TLSA record that SMTP knows (RFC 7218).
const (
	usageDANETA = 2
	usageDANEEE = 3

	selectorCert = 0
	selectorSPKI = 1

	matchFull   = 0
	matchSHA256 = 1
	matchSHA512 = 2
)

// usable reports whether a certificate can be matched against the record.
// RFC 7672, section 3.1.3: usages 0 and 1 are not for SMTP. RFC 6698, section
// 4.1: what is not understood, or malformed, is unusable.
func usable(r *dns.TLSA) bool {
	if r.Usage != usageDANETA && r.Usage != usageDANEEE {
		return false
	}
	if r.Selector != selectorCert && r.Selector != selectorSPKI {
		return false
	}
	data, err := hex.DecodeString(r.Certificate)
	if err != nil {
		return false
	}
	switch r.MatchingType {
	case matchSHA256:
		return len(data) == sha256.Size
	case matchSHA512:
		return len(data) == sha512.Size
	case matchFull:
		return wellFormed(r.Selector, data)
	default:
		return false
	}
}

// wellFormed reports whether data is a certificate, or a public key of any
// algorithm, and nothing else.
func wellFormed(selector uint8, data []byte) bool {
	if selector == selectorCert {
		_, err := x509.ParseCertificate(data)
		return err == nil
	}
	var key struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(data, &key)
	return err == nil && len(rest) == 0
}
