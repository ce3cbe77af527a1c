package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// checkZone is what the scripts of check and lint see beyond adminZone: a mail
// host that offers STARTTLS at port %[1]d and one that does not at %[2]d. %[3]s
// is the TLSA record of the first.
const checkZone = `
	nothing.example                   MX 10 mx.nothing.example.
	mx.nothing.example                A 192.0.2.1
	testing.example                   MX 10 mx.nothing.example.
	broken.example                    MX 10 mx.nothing.example.
	null.example                      MX 0 .
	mx.dane.example                   A 127.0.0.1
	_%[1]d._tcp.mx.dane.example       TLSA %[3]s
	_%[2]d._tcp.mx.dane.example       TLSA %[3]s
	_mta-sts.bad.example              TXT "v=STSv1; id=1;"
`

// fakePostconf is a Postfix whose settings lack DNSSEC.
const fakePostconf = `#!/bin/sh
cat <<END
mail_version = 3.11.0
smtp_tls_security_level = may
smtp_dns_support_level =
smtp_tls_policy_maps = socketmap:inet:127.0.0.1:1:policy
smtp_tls_CAfile = /etc/ssl/certs/ca-certificates.crt
smtp_helo_name = out.relay.example
END
echo "postconf: warning: overriding earlier entry" >&2
`

// Each script has a DNS server, policy hosts and two mail hosts, at ports $TLS
// and $CLEAR of mx.dane.example; daemon.yaml is the configuration with which the
// program finds them.
func TestCheckScripts(t *testing.T) {
	hosts := startPolicyHosts(t)
	cert, _ := policyCertificate(t)
	secure, plain := startMailHost(t, &cert), startMailHost(t, nil)
	zone := adminZone + fmt.Sprintf(checkZone, secure, plain, tlsaOf(t, cert))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/check",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TLS", fmt.Sprint(secure))
			env.Setenv("CLEAR", fmt.Sprint(plain))
			return setUpCheck(env, hosts, zone)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "awaits": awaits},
	})
}

func setUpCheck(env *testscript.Env, hosts *policyHosts, zone string) error {
	w, err := startScriptWorld(env, zone)
	if err != nil {
		return err
	}
	env.Setenv("ADMIN", filepath.Join(w.dir, "admin.sock"))
	env.Setenv("PATH", filepath.Join(env.WorkDir, "bin")+string(os.PathListSeparator)+env.Getenv("PATH"))
	return writeFiles(env.WorkDir, map[string]string{
		"ca.pem": hosts.ca, "bin/postconf": fakePostconf,
		"daemon.yaml": w.conf(hosts, filepath.Join(w.dir, "ask")) + fmt.Sprintf("cache: {file: none}\nadmin: {socket: %q}\n", env.Getenv("ADMIN")),
	})
}

// tlsaOf returns the TLSA record of a certificate.
func tlsaOf(t *testing.T, c tls.Certificate) string {
	t.Helper()
	cert, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "3 1 1 " + hex.EncodeToString(sum[:])
}

// startMailHost starts a mail host, which offers STARTTLS if it has a
// certificate, and returns its port.
func startMailHost(t *testing.T, cert *tls.Certificate) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			speakSMTP(conn, cert)
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// speakSMTP speaks until the client is gone. It knows the Postfix of fakePostconf
// and nobody else.
func speakSMTP(conn net.Conn, cert *tls.Certificate) {
	in := bufio.NewReader(conn)
	say := func(s string) { _, _ = io.WriteString(conn, s) }
	say("220 mail host\r\n")
	for {
		line, err := in.ReadString('\n')
		switch {
		case err != nil:
			return
		case strings.HasPrefix(line, "EHLO") && line != "EHLO out.relay.example\r\n":
			say("550 not with that name\r\n")
		case strings.HasPrefix(line, "EHLO") && cert == nil:
			say("250 mail host\r\n")
		case strings.HasPrefix(line, "EHLO"):
			say("250-mail host\r\n250 STARTTLS\r\n")
		default:
			say("220 go\r\n")
			_, _ = io.Copy(io.Discard, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*cert}}))
			return
		}
	}
}
