//go:build e2e

package perf_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/miekg/dns"

	"tlspolicyd/test/world"
)

// walker goes the critical path of a first question, one step after the other,
// and does nothing else: what it needs is what network, DNS server and policy host
// need.
type walker struct {
	server string
	roots  *x509.CertPool
}

func newWalker(b *testing.B, w *world.World) *walker {
	b.Helper()
	pem, err := os.ReadFile(w.CAFile())
	if err != nil {
		b.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		b.Fatal("no certificate of an authority")
	}
	return &walker{server: w.DNS.Addr(), roots: roots}
}

// walk looks at the TXT record of a domain and, if there is one, fetches the
// policy: address, TCP, TLS 1.3 and HTTP.
func (w *walker) walk(b *testing.B, domain string) {
	b.Helper()
	if len(w.lookUp(b, "_mta-sts."+domain, dns.TypeTXT)) == 0 {
		return
	}
	host := "mta-sts." + domain
	answer := w.lookUp(b, host, dns.TypeA)
	if len(answer) == 0 {
		b.Fatalf("%s has no address", host)
	}
	nc, err := net.Dial("tcp", net.JoinHostPort(answer[0].(*dns.A).A.String(), "443"))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	conn := tls.Client(nc, &tls.Config{ServerName: host, RootCAs: w.roots, MinVersion: tls.VersionTLS13})
	if _, err := fmt.Fprintf(conn, "GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		b.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s, %v", host, response.Status, err)
	}
}

// lookUp asks the DNS one question and returns the answers.
func (w *walker) lookUp(b *testing.B, name string, kind uint16) []dns.RR {
	b.Helper()
	response, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), w.server)
	if err != nil {
		b.Fatal(err)
	}
	return response.Answer
}
