package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tlspolicyd/resolver/dnstest"
)

// The world of the scripts: what domains announce, and what their policy hosts
// give out. The host of gone.example has no policy.
const adminZone = `
	$SECURE example
	_mta-sts.enforce.example  TXT "v=STSv1; id=20260101;"
	enforce.example           MX 10 mx.enforce.example.
	mx.enforce.example        A 192.0.2.1
	_mta-sts.testing.example  TXT "v=STSv1; id=7;"
	_mta-sts.gone.example     TXT "v=STSv1; id=1;"
`

var adminPolicies = map[string]string{
	"mta-sts.enforce.example": "version: STSv1\nmode: enforce\nmx: mx.enforce.example\nmx: *.enforce.example\nmax_age: 604800\n",
	"mta-sts.testing.example": "version: STSv1\nmode: testing\nmx: mx.testing.example\nmax_age: 86400\n",
}

// scriptWorld is what a script has to itself: a DNS server, and a directory with
// a short path, since that of a script may be too long for a socket.
type scriptWorld struct {
	dns *dnstest.Server
	dir string
	ca  string
}

func startScriptWorld(env *testscript.Env, zone string) (*scriptWorld, error) {
	dns, err := dnstest.Listen("127.0.0.1:0", zone)
	if err != nil {
		return nil, err
	}
	dns.Fault("_mta-sts.broken.example", "TXT", dnstest.ServFail)
	env.Defer(func() {
		if err := dns.Close(); err != nil {
			env.T().Fatal(err)
		}
	})
	dir, err := os.MkdirTemp("", "world")
	if err != nil {
		return nil, err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	return &scriptWorld{dns, dir, filepath.Join(env.WorkDir, "ca.pem")}, nil
}

// conf is a configuration that finds the world, and answers Postfix at a path.
func (w *scriptWorld) conf(hosts *policyHosts, ask string) string {
	return fmt.Sprintf("listen: [%q]\ndns: {servers: [%q]}\nsts: {ca_file: %q, proxy: %q}\n",
		"unix:"+ask, w.dns.Addr(), w.ca, hosts.proxy)
}

// writeFiles writes files, which may be programs, into a directory.
func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil { //nolint:gosec // One of them is a program.
			return err
		}
	}
	return nil
}

// awaits waits until somebody listens on a socket.
func awaits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: awaits PATH")
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("unix", args[0])
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("nobody listens: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// policyHosts are the hosts of all policies, behind a proxy that leads there
// whatever it is asked for.
type policyHosts struct {
	proxy string
	ca    string
}

func startPolicyHosts(t *testing.T) *policyHosts {
	t.Helper()
	cert, ca := policyCertificate(t)
	hosts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := adminPolicies[strings.TrimSuffix(r.Host, ":443")]
		if r.Host == "mta-sts.html.example" {
			w.Header().Set("Content-Type", "text/html")
			return
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, text)
	}))
	hosts.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	hosts.StartTLS()
	t.Cleanup(hosts.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnel(r.Context(), w, hosts.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	return &policyHosts{proxy: proxy.URL, ca: ca}
}

// tunnel connects a client of a proxy with an address.
func tunnel(ctx context.Context, w http.ResponseWriter, address string) {
	var dialer net.Dialer
	host, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer host.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(host, client)
		_ = host.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, host)
	_ = client.Close()
	<-done
}

// policyCertificate makes a certificate for all policy hosts, and returns it
// for who trusts it too.
func policyCertificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mta-sts.enforce.example", "mta-sts.testing.example", "mta-sts.gone.example", "mta-sts.html.example"},
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(text)
}
