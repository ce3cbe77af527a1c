package check_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/internal/check"
	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap/policymap"
)

// authority signs the certificates of all hosts.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // there is no randomness
	}
	return key
}

func newAuthority() *authority {
	a := &authority{key: newKey()}
	a.cert = a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, a.key)
	return a
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		panic(err) // the template of a test is wrong
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
}

// rsaLeaf makes a certificate for a name, with a key of RSA.
func (a *authority) rsaLeaf(name string) tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // there is no randomness
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		panic(err) // the template is wrong
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// leaf makes a certificate for names, as change makes it.
func (a *authority) leaf(change func(*x509.Certificate), names ...string) tls.Certificate {
	key := newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "host"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	parent := a.cert
	if template.Subject.CommonName == selfSigned {
		parent = nil
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(template, parent, key).Raw}, PrivateKey: key}
}

// Ways in which a certificate is wrong.
const selfSigned = "self"

func alone(c *x509.Certificate)   { c.Subject.CommonName = selfSigned }
func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
func anonymous(c *x509.Certificate) {
	c.Subject.CommonName = ""
}
func nameless(c *x509.Certificate) {
	c.Subject.CommonName, c.DNSNames = "mx1.example.com", nil
}

// tlsa returns the data of a TLSA record 3 1 1 of a certificate.
func tlsa(c tls.Certificate) string {
	cert, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "3 1 1 " + hex.EncodeToString(sum[:])
}

// world is what a case sees of the Internet.
type world struct {
	ca    *authority
	zones string
	// fault makes the DNS server do things wrong.
	fault func(*dnstest.Server)
	// web answers for the policy host, with cert; nil is a host that cannot
	// be connected to.
	web  http.Handler
	cert *tls.Certificate
	// mail are the mail hosts by address and port; nil means that nobody looks
	// at them.
	mail     map[string]*mailHost
	postconf check.Postconf
	daemon   check.Daemon
	noDANE   bool
	listen   []string
	dial     dialer // to where Postfix asks
	readFile func(string) ([]byte, error)
	// proxy is what policies are fetched through, and systemRoots says that the
	// authorities are those of the system.
	proxy       *url.URL
	systemRoots bool
}

// run checks a key in the world.
func (w *world) run(t *testing.T, key string) *check.Report {
	t.Helper()
	return w.runIn(t.Context(), t, key)
}

func (w *world) runIn(ctx context.Context, t *testing.T, key string) *check.Report {
	t.Helper()
	srv := dnstest.Start(t, w.zones)
	if w.fault != nil {
		w.fault(srv)
	}
	client, err := dnsclient.New(dnsclient.Options{Servers: []string{srv.Addr()}, Timeout: w.dnsTimeout(), Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	recorder := dnstrace.New(client)
	sts, err := mtasts.New(mtasts.Options{
		DNS: recorder, CAFile: w.rootsFile(t), Dial: w.policyHost(t), Proxy: w.proxy, FetchTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	hop, err := policymap.ParseKey(key, policymap.KeyRules{})
	if err != nil {
		t.Fatal(err)
	}
	c := check.New(check.Options{
		STS: sts, DANE: dane.New(recorder), DNS: recorder, Servers: client, NoDANE: w.noDANE,
		Prober: w.prober(t), Postconf: w.postconf, Daemon: w.daemon, Listen: w.listen, Dial: w.dial, ReadFile: w.readFile,
	})
	return c.Run(ctx, key, hop)
}

// dnsTimeout is short only where answers may not come: a machine that does other
// things too takes its time.
func (w *world) dnsTimeout() time.Duration {
	if w.fault != nil {
		return 500 * time.Millisecond
	}
	return 10 * time.Second
}

// smtpTimeout is short only where a host falls silent.
func (w *world) smtpTimeout() time.Duration {
	for _, h := range w.mail {
		if h != nil && (h.hang || h.mute) {
			return time.Second
		}
	}
	return 30 * time.Second
}

func (w *world) rootsFile(t *testing.T) string {
	if w.systemRoots {
		return ""
	}
	name := filepath.Join(t.TempDir(), "roots.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: w.ca.cert.Raw}
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (w *world) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(w.ca.cert)
	return pool
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

var errRefused = errors.New("connection refused")

// policyHost starts the policy host, and returns how to connect to it.
func (w *world) policyHost(t *testing.T) dialer {
	if w.web == nil {
		return func(context.Context, string, string) (net.Conn, error) { return nil, errRefused }
	}
	srv := httptest.NewUnstartedServer(w.web)
	cert := w.cert
	if cert == nil {
		good := w.ca.leaf(nil, "mta-sts.example.com", "mta-sts.mx1.example.com")
		cert = &good
	}
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
	}
}

// mailHost is a host that speaks SMTP.
type mailHost struct {
	cert tls.Certificate
	// greeting and offer are what it says; empty means what it should.
	greeting, offer string
	// helo is what it says to HELO, and after to STARTTLS; empty means what it
	// should.
	helo, after string
	// max is the last version of TLS that it knows, and ciphers are those of the
	// versions before 1.3; 0 and nil mean what is usual.
	max     uint16
	ciphers []uint16
	// hang makes it say nothing, bye hang up at once, and mute say nothing once
	// TLS is to begin.
	hang, bye, mute bool
}

// prober returns how to look at the mail hosts.
func (w *world) prober(t *testing.T) *check.Prober {
	if w.mail == nil {
		return nil
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	return &check.Prober{Roots: w.roots(), Timeout: w.smtpTimeout(), Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		h := w.mail[address]
		if h == nil {
			return nil, errRefused
		}
		ours, theirs := net.Pipe()
		serving.Go(func() {
			defer theirs.Close()
			h.serve(theirs)
		})
		return ours, nil
	}}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// serve speaks until the client is gone.
func (h *mailHost) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	if h.bye {
		return
	}
	if h.hang {
		_, _ = in.ReadString('\n') // the client hangs up
		return
	}
	say := func(s string) bool { _, err := io.WriteString(conn, s); return err == nil }
	if !say(or(h.greeting, "220 mx ESMTP\r\n")) {
		return
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.HasPrefix(line, "EHLO ") {
			say(or(h.offer, "250-mx\r\n250-PIPELINING\r\n250-StartTLS\r\n250 8BITMIME\r\n"))
			continue
		}
		if strings.HasPrefix(line, "HELO ") {
			say(or(h.helo, "250 mx\r\n"))
			continue
		}
		say(or(h.after, "220 go ahead\r\n"))
		if h.after != "" {
			continue
		}
		if h.mute {
			_, _ = io.Copy(io.Discard, conn) // until the client is gone
			return
		}
		secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{h.cert}, MaxVersion: h.max, MinVersion: tls.VersionTLS10, CipherSuites: h.ciphers}) //nolint:gosec // A host that is too old is a case.
		_, _ = io.Copy(io.Discard, secure)                                                                                                                         // until the client is gone
		return
	}
}

// file answers with a policy file, by headers in pairs.
func file(text string, headers ...string) http.Handler {
	return status(http.StatusOK, text, headers...)
}

func status(code int, text string, headers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text) // the client may be gone
	})
}

// memory is a daemon that knows a fact.
type memory struct {
	sts    policy.STS
	err    error
	listen []string
}

func (m memory) View(context.Context, policy.Domain) (check.DaemonView, error) {
	return check.DaemonView{STS: m.sts, Lines: []string{"a line of the daemon"}, Listen: m.listen}, m.err
}
