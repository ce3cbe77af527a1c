package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// handshake makes conn a TLS connection to the host, with a certificate for
// its name.
func (t *transfer) handshake(ctx context.Context, conn net.Conn) (*tls.Conn, *fetchError) {
	pool, err := t.roots.get(time.Now())
	if err != nil {
		return nil, failure(resultTLS, "no root certificates", err)
	}
	secure := tls.Client(conn, &tls.Config{
		// RFC 8461, section 7.1: SNI is the name of the policy host. The
		// certificate must be for that name by its DNS-ID (section 3.3):
		// package x509 looks at nothing else, and not at the common name.
		ServerName: t.host,
		RootCAs:    pool,
		// RFC 8461, section 7.2, and RFC 9325, section 3.1.1.
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		// No two fetches have anything in common.
		SessionTicketsDisabled: true,
	})
	started := time.Now()
	err = secure.HandshakeContext(ctx)
	traceOf(ctx).handshake(secure, started, err)
	if err != nil {
		return nil, &fetchError{result: resultTLS, reason: oneLine(tlsReason(t.host, err)), err: err}
	}
	return secure, nil
}

// tlsReason says for people why a handshake with host failed.
func tlsReason(host string, err error) string {
	var (
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		header  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name):
		return wrongName(host, name.Certificate)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("certificate is valid from %s to %s only",
			invalid.Cert.NotBefore.UTC().Format(time.RFC3339), invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &unknown):
		return fmt.Sprintf("certificate of %s is not signed by a known authority: issuer %q", host, issuer(unknown.Cert))
	case errors.As(err, &header):
		return host + " does not speak TLS: " + header.Msg
	case errors.Is(err, io.EOF):
		return host + " closed the connection in the TLS handshake"
	default:
		return "TLS handshake with " + host + ": " + plain(err)
	}
}

// wrongName says for which names a certificate is instead.
func wrongName(host string, cert *x509.Certificate) string {
	const most = 3
	names := cert.DNSNames
	if len(names) == 0 {
		return fmt.Sprintf("certificate is for no DNS name, want %s (a common name does not count)", host)
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Sprintf("certificate is for %s%s, want %s", strings.Join(names, ", "), more, host)
}

func issuer(cert *x509.Certificate) string {
	if cert == nil {
		return "unknown"
	}
	return cert.Issuer.String()
}

// eofConn notes when the other side ended the TCP connection.
type eofConn struct {
	net.Conn
	ended atomic.Bool
}

// Read reads from the connection.
func (c *eofConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}
