package check_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"tlspolicyd/internal/check"
	"tlspolicyd/socketmap/policymap"
)

// Where nobody listens, Postfix defers every mail: that comes before all else that
// there is to say of this machine.
func TestNobodyListensWherePostfixAsks(t *testing.T) {
	refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
	missing := &net.OpError{Op: "dial", Err: &fs.PathError{Op: "connect", Err: syscall.ENOENT}}
	denied := os.NewSyscallError("connect", syscall.EACCES)
	const unix = "socketmap:unix:/run/ask:policy"
	for _, tt := range []struct {
		name, maps string
		errs       map[string]error // by target; nil is somebody who listens
		where      string           // empty: nothing is said
	}{
		{"somebody", "socketmap:inet:127.0.0.1:8461:policy", map[string]error{"tcp 127.0.0.1:8461": nil}, ""},
		{"nobody", "hash:/x, proxy:socketmap:inet:127.0.0.1:8461:policy", map[string]error{"tcp 127.0.0.1:8461": refused}, "127.0.0.1:8461"},
		{"it is not known", "socketmap:inet:127.0.0.1:8461:policy", map[string]error{"tcp 127.0.0.1:8461": errors.New("time-out")}, ""},
		{"nobody at the second", "socketmap:inet:a:1:x socketmap:inet:b:2:y", map[string]error{"tcp a:1": nil, "tcp b:2": refused}, "b:2"},
		{"no socket in the queue directory", "socketmap:unix:private/ask:policy", map[string]error{"unix /queue/private/ask": missing}, "unix:private/ask"},
		{"a socket nobody may open", "socketmap:unix:private/ask:policy", map[string]error{"unix /queue/private/ask": denied}, ""},
		{"no socket in the chroot, one outside", unix, map[string]error{"unix /queue/run/ask": missing, "unix /run/ask": nil}, ""},
		{"no socket in either", unix, map[string]error{"unix /queue/run/ask": missing, "unix /run/ask": refused}, "unix:/run/ask"},
		{"no socketmap", "hash:/x", nil, ""},
	} {
		dial := func(_ context.Context, network, address string) (net.Conn, error) {
			err, ok := tt.errs[network+" "+address]
			if !ok {
				t.Errorf("%s: dialled %s %s", tt.name, network, address)
			}
			ours, _ := net.Pipe()
			return ours, err
		}
		postconf := settings(map[string]string{"smtp_tls_policy_maps": tt.maps, "queue_directory": "/queue"})
		w := world{ca: newAuthority(), zones: announced + oneMX, web: file(enforce), postconf: postconf, dial: dial}
		_, reason := policymap.ParseKey("[192.0.2.1]", policymap.KeyRules{})
		unasked := check.New(check.Options{Postconf: postconf, Dial: dial}).Unasked(t.Context(), "[192.0.2.1]", reason)
		for _, r := range []*check.Report{w.run(t, "example.com"), unasked} {
			says := "  here     nobody listens at " + tt.where + ", which smtp_tls_policy_maps asks, so Postfix defers all mail"
			if text := firstLines(r.Text()); strings.Contains(text, "nobody listens") != (tt.where != "") || tt.where != "" && !strings.Contains(text, says) {
				t.Errorf("%s: want %q in\n%s", tt.name, says, text)
			}
		}
	}
}

// Without its authorities Postfix has no TLS, for any domain.
func TestPostfixWithoutItsAuthorities(t *testing.T) {
	ca := newAuthority()
	good := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	// Of Fedora's ca-bundle.trust.crt, and one that Go does not read but OpenSSL does.
	trusted := pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: ca.cert.Raw})
	odd := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0}})
	for name, tt := range map[string]struct {
		text []byte
		err  error
		says string // empty: nothing
	}{
		"good":         {good, nil, ""},
		"trusted":      {trusted, nil, ""},
		"odd":          {odd, nil, ""},
		"missing":      {nil, fs.ErrNotExist, "smtp_tls_CAfile = /ca.pem: no such file, so Postfix does no TLS at all: mail that needs it is deferred, all other goes in clear"},
		"not readable": {nil, fs.ErrPermission, ""},
		"no PEM":       {[]byte("root:x:0"), nil, "smtp_tls_CAfile = /ca.pem: no certificate in it, so Postfix does no TLS at all"},
		"a key":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}), nil, "smtp_tls_CAfile = /ca.pem: no certificate in it, so Postfix does no TLS at all"},
	} {
		w := world{ca: ca, zones: oneMX, postconf: settings(map[string]string{"smtp_tls_CAfile": "/ca.pem"}),
			readFile: func(string) ([]byte, error) { return tt.text, tt.err }}
		text := w.run(t, "example.com").Text()
		if strings.Contains(text, "does no TLS") != (tt.says != "") || !strings.Contains(firstLines(text), tt.says) || strings.Contains(text, "lacks nothing") != (tt.says == "") {
			t.Errorf("%s: want %q in\n%s", name, tt.says, text)
		}
	}
}

// Postfix reads its authorities within its queue directory.
func TestWhereTheAuthoritiesOfPostfixAre(t *testing.T) {
	for file, want := range map[string]string{"/ca.pem": "/ca.pem", "etc/ca.pem": "/queue/etc/ca.pem"} {
		w := world{ca: newAuthority(), zones: oneMX, postconf: settings(map[string]string{"smtp_tls_CAfile": file, "queue_directory": "/queue"}),
			readFile: func(name string) ([]byte, error) {
				if name != want {
					t.Errorf("%s: read %s, want %s", file, name, want)
				}
				return nil, fs.ErrPermission
			}}
		w.run(t, "example.com")
	}
}
