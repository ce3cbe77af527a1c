//go:build e2e

package lab

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// HostKind is how the mail host of a domain, or who stands in its place,
// treats those who want TLS.
type HostKind int

// The kinds of hosts.
const (
	// Right shows a certificate that is right.
	Right HostKind = iota
	// Stripped offers no STARTTLS.
	Stripped
	// OtherName shows a good certificate of another host.
	OtherName
	// Unsigned shows a certificate for the right name that no authority signed.
	Unsigned
	// Expired shows a certificate for the right name that has ended.
	Expired
	// Sibling shows a good certificate of another host beside it, under the
	// same parent domain.
	Sibling
	// Wildcard shows a good certificate for every host beside it.
	Wildcard
)

// Domain is what a domain publishes. Its name is that of a domain below one of
// the zones, without the final dot.
type Domain struct {
	Name string
	// Host is how its mail host behaves.
	Host HostKind
	// MX is the name of its mail host; empty means "mx." and the name.
	MX string
	// ID is the id of its MTA-STS record; empty means that there is none.
	ID string
	// Policy is what its policy host answers. It has an address if ID is set.
	Policy Policy
	// TLSA says what is published for its mail host.
	TLSA TLSAKind
}

// TLSAKind is what TLSA records a mail host has (RFC 7672).
type TLSAKind int

// The kinds of TLSA records.
const (
	// NoTLSA: none.
	NoTLSA TLSAKind = iota
	// GoodTLSA: one that fits the certificate.
	GoodTLSA
	// WrongTLSA: one that fits another certificate.
	WrongTLSA
)

// AddDomain publishes d, and starts its mail host.
func (l *Lab) AddDomain(t testing.TB, d Domain) *MailHost {
	t.Helper()
	if d.MX == "" {
		d.MX = "mx." + d.Name
	}
	cert := l.Cert(t, d.Host, d.MX)
	host := l.StartMailHost(t, cert)
	records := fmt.Sprintf("%s. 60 MX 10 %s.\n%s. 60 A %s\n", d.Name, d.MX, d.MX, host.Addr)
	if d.ID != "" {
		records += fmt.Sprintf("_mta-sts.%s. 60 TXT \"v=STSv1; id=%s\"\n%s. 60 A %s\n",
			d.Name, d.ID, hostOf(d.Name), PolicyAddress)
		l.Policies.Set(t, d.Name, d.Policy)
	}
	switch d.TLSA {
	case GoodTLSA:
		records += fmt.Sprintf("_25._tcp.%s. 60 TLSA %s\n", d.MX, TLSA(t, cert))
	case WrongTLSA:
		records += fmt.Sprintf("_25._tcp.%s. 60 TLSA 3 1 1 %s\n", d.MX, strings.Repeat("00", 32))
	}
	l.Zones.Set(t, records)
	return host
}

// Cert returns the certificate that a host of that kind and name shows; nil
// means no STARTTLS.
func (l *Lab) Cert(t testing.TB, kind HostKind, name string) *tls.Certificate {
	t.Helper()
	_, parent, _ := strings.Cut(name, ".")
	switch kind {
	case Stripped:
		return nil
	case OtherName:
		return l.CA.Certificate(t, "mx.attacker.test")
	case Unsigned:
		return SelfSigned(t, name)
	case Expired:
		return l.CA.Expired(t, name)
	case Sibling:
		return l.CA.Certificate(t, "beside."+parent)
	case Wildcard:
		return l.CA.Certificate(t, "*."+parent)
	default:
		return l.CA.Certificate(t, name)
	}
}
