package main

import (
	"bytes"
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

	"tlspolicyd/internal/config"
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

// Each script has a DNS server and policy hosts, and daemon.yaml, a
// configuration with which "tlspolicyd serve" finds them. The daemon answers
// Postfix at $ASK and the operator at $ADMIN. The command awaits PATH waits
// until somebody listens there.
func TestAdminScripts(t *testing.T) {
	hosts := startPolicyHosts(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/admin",
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return setUpAdmin(env, hosts) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "awaits": awaits,
		},
	})
}

func setUpAdmin(env *testscript.Env, hosts *policyHosts) error {
	dns, err := dnstest.Listen("127.0.0.1:0", adminZone)
	if err != nil {
		return err
	}
	dns.Fault("_mta-sts.broken.example", "TXT", dnstest.ServFail)
	env.Defer(func() {
		if err := dns.Close(); err != nil {
			env.T().Fatal(err)
		}
	})
	// The directory of a script may be too long a path for a socket.
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(dir) })
	ask, admin := filepath.Join(dir, "ask"), filepath.Join(dir, "run", "admin.sock")
	env.Setenv("ASK", ask)
	env.Setenv("ADMIN", admin)
	env.Setenv("TZ", "UTC")
	ca := filepath.Join(env.WorkDir, "ca.pem")
	text := fmt.Sprintf("listen: [%q]\ndns: {servers: [%q]}\nsts: {ca_file: %q, proxy: %q}\n"+
		"cache: {file: %q}\nlog: {format: console}\n",
		"unix:"+ask, dns.Addr(), ca, hosts.proxy, filepath.Join(env.WorkDir, "policies.db"))
	for name, content := range map[string]string{
		ca:                                      hosts.ca,
		filepath.Join(env.WorkDir, "base.yaml"): text,
		filepath.Join(env.WorkDir, "daemon.yaml"): text + fmt.Sprintf("admin: {socket: %q}\n", admin),
		filepath.Join(env.WorkDir, "memory.yaml"): strings.Replace(text, "cache: {file: ", "cache: {file: none} # ", 1) + fmt.Sprintf("admin: {socket: %q}\n", admin),
		filepath.Join(env.WorkDir, "deaf.yaml"):   text + "admin: {socket: /proc/nonexistent/admin.sock}\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
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

func TestRelative(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{0, "now"},
		{-300 * time.Millisecond, "now"},
		{time.Second, "in 1 s"},
		{-119 * time.Second, "119 s ago"},
		{2 * time.Minute, "in 2 min"},
		{-119 * time.Minute, "119 min ago"},
		{3*time.Hour + 59*time.Minute, "in 4 h"},
		{-48 * time.Hour, "2 d ago"},
		{365 * 24 * time.Hour, "in 365 d"},
	} {
		if got := relative(tt.d); got != tt.want {
			t.Errorf("relative(%s) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestBytesOf(t *testing.T) {
	for _, tt := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1.0 KiB"}, {1536, "1.5 KiB"}, {2 << 30, "2.0 GiB"}, {1 << 62, "4.0 EiB"},
	} {
		if got := bytesOf(tt.n); got != tt.want {
			t.Errorf("bytesOf(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestAdminSocketOfTheConfiguration(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "/run/other:/run/more")
	c := config.Default()
	if got, err := adminSocket(c); got != "/run/other/admin.sock" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	t.Setenv("RUNTIME_DIRECTORY", "relative")
	if got, err := adminSocket(c); err == nil {
		t.Errorf("got %q, want an error", got)
	}
	c.Admin.Socket = "/run/x.sock"
	if got, err := adminSocket(c); got != "/run/x.sock" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestAnUnreachableDaemonIsNamed(t *testing.T) {
	var messages bytes.Buffer
	dir := t.TempDir()
	file := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(file, []byte("admin: {socket: "+filepath.Join(dir, "none")+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code := run(t.Context(), []string{"status", "--config", file}, "", strings.NewReader(""), full{}, &messages)
	if code != exitUnknown || !strings.Contains(messages.String(), filepath.Join(dir, "none")) {
		t.Errorf("got %d, %q", code, messages.String())
	}
}
