//go:build e2e

package redisstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/test/redis"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = write(t, "ca.pem", encode("CERTIFICATE", der))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// sign returns the files of a certificate for an address, and of its key.
func (a *authority) sign(t *testing.T, address string) (cert, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "relay"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", encode("CERTIFICATE", der)), write(t, "key.pem", encode("EC PRIVATE KEY", secret))
}

// startTLS starts a server that speaks TLS only, with a certificate for
// address, and asks for certificates of the same authority.
func startTLS(t *testing.T, ca *authority, address string, args ...string) *redis.Server {
	t.Helper()
	cert, key := ca.sign(t, address)
	s := redis.New(t, redis.Redis, append([]string{
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca.file,
		"--tls-replication", "yes",
	}, args...)...)
	s.TLSOnly()
	mine, secret := ca.sign(t, "192.0.2.1")
	s.CLI = []string{"--tls", "--insecure", "--cacert", ca.file, "--cert", mine, "--key", secret}
	s.Start()
	return s
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	server, other := startTLS(t, ca, "127.0.0.1"), startTLS(t, ca, "127.0.0.9")
	cert, key := ca.sign(t, "192.0.2.2")
	strangeCert, strangeKey := stranger.sign(t, "192.0.2.2")
	address := mustURL(t, "rediss://"+server.Addr)
	good := Options{URL: address, CAFile: ca.file, CertFile: cert, KeyFile: key}
	r := record(t, "a.example")
	s := open(t, good)
	mustSave(t, s, r)
	wantLoad(t, start(t, good), r)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"authorities of the system": {Options{URL: address, CertFile: cert, KeyFile: key}, "unknown authority"},
		"another authority":         {Options{URL: address, CAFile: stranger.file, CertFile: cert, KeyFile: key}, "unknown authority"},
		"certificate for another":   {Options{URL: mustURL(t, "rediss://"+other.Addr), CAFile: ca.file, CertFile: cert, KeyFile: key}, "127.0.0.9"},
		"no certificate":            {Options{URL: address, CAFile: ca.file}, ""},
		"a stranger's certificate":  {Options{URL: address, CAFile: ca.file, CertFile: strangeCert, KeyFile: strangeKey}, ""},
		"no TLS":                    {Options{URL: mustURL(t, "redis://"+server.Addr)}, ""},
		"TLS to one that has none":  {Options{URL: mustURL(t, "rediss://"+redis.Start(t, redis.Redis).Addr), CAFile: ca.file}, ""},
	} {
		c.o.timeout = 2 * time.Second
		_, err := open(t, c.o).Load(t.Context(), r.Domain)
		wantUnknown(t, err)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestContractOverTLS(t *testing.T) {
	ca := newAuthority(t)
	server := startTLS(t, ca, "127.0.0.1")
	cert, key := ca.sign(t, "192.0.2.2")
	storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
		server.Do("FLUSHALL")
		return pair(t, Options{URL: mustURL(t, "rediss://"+server.Addr), CAFile: ca.file, CertFile: cert, KeyFile: key})
	})
}

// rights are what docs/fleet.md lets the user do.
func rights(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "user tlspolicyd on "); found {
			var kept []string
			for _, word := range strings.Fields(rest) {
				if !strings.HasPrefix(word, "#") { // the password
					kept = append(kept, word)
				}
			}
			return kept
		}
	}
	t.Fatal("docs/fleet.md names no rights")
	return nil
}

const secret = "correct horse"

// protect makes the user of the documentation the only one.
func protect(t *testing.T, s *redis.Server) {
	t.Helper()
	s.Do(append([]string{"ACL", "SETUSER", "tlspolicyd", "reset", "on", ">" + secret}, rights(t)...)...)
	s.Do("ACL", "SETUSER", "admin", "on", ">admin", "allkeys", "allchannels", "allcommands")
	s.Do("ACL", "SETUSER", "default", "off")
	s.CLI = []string{"--user", "admin", "--pass", "admin", "--no-auth-warning"}
}

func withUser(t *testing.T, address string) Options {
	t.Helper()
	return Options{URL: mustURL(t, address), PasswordFile: write(t, "password", secret+"\n")}
}

func TestContractWithTheRightsOfTheDocumentation(t *testing.T) {
	for _, kind := range []redis.Kind{redis.Redis, redis.Valkey} {
		t.Run(string(kind), func(t *testing.T) {
			server := redis.Start(t, kind)
			protect(t, server)
			o := withUser(t, "redis://tlspolicyd@"+server.Addr)
			storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
				server.Do("FLUSHALL")
				return pair(t, o)
			})
			wantNoRefusals(t, server, o)
		})
	}
}

func TestContractOfAClusterWithTheRightsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	for _, s := range servers {
		protect(t, s)
	}
	o := withUser(t, "redis+cluster://tlspolicyd@"+servers[0].Addr)
	storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
		for _, s := range servers {
			s.Do("FLUSHALL")
		}
		return pair(t, o)
	})
	for _, s := range servers {
		wantNoRefusals(t, s, o)
	}
}

// A policy is saved and read while the slot of its key moves to another node.
func TestReshardingWithTheRightsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	for _, s := range servers {
		protect(t, s)
	}
	s := start(t, withUser(t, "redis+cluster://tlspolicyd@"+servers[0].Addr))
	until(t, "in reach", isUp(s))
	r := record(t, "a.example")
	slot := servers[0].Do("CLUSTER", "KEYSLOT", s.key(r.Domain))
	from := slices.IndexFunc(servers, func(n *redis.Server) bool {
		out, err := n.Try("EXISTS", s.key(r.Domain))
		return err == nil && out == "0"
	})
	to := servers[(from+1)%len(servers)]
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", servers[from].Do("CLUSTER", "MYID"))
	servers[from].Do("CLUSTER", "SETSLOT", slot, "MIGRATING", to.Do("CLUSTER", "MYID"))
	mustSave(t, s, r)
	wantLoad(t, s, r)
	if err := s.Remove(t.Context(), r.Domain); err != nil {
		t.Errorf("Remove: %v", err)
	}
	for _, n := range servers {
		wantNoRefusals(t, n, s.o)
	}
}

// wantNoRefusals fails if the store still is refused something after a while,
// or the server has refused anything.
func wantNoRefusals(t *testing.T, server *redis.Server, o Options) {
	t.Helper()
	s := start(t, o)
	awaitBehind(t, s)
	until(t, "no refusal", func() bool { return s.Status().Err == nil })
	if out := server.Do("ACL", "LOG"); out != "" {
		t.Errorf("refused:\n%s", out)
	}
	if marker, err := s.db().GetRange(t.Context(), DefaultPrefix+"marker", 0, -1).Result(); marker == "" {
		t.Errorf("there is no marker: %v", err)
	}
}

// Every right that the documentation gives is needed for something.
func TestNoRightTooMany(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	protect(t, server)
	r := record(t, "a.example")
	for _, right := range rights(t) {
		command, found := strings.CutPrefix(right, "+")
		if !found || strings.HasPrefix(command, "cluster|") || command == "asking" { // see the tests with a cluster
			continue
		}
		t.Run(command, func(t *testing.T) {
			server.Do("FLUSHALL")
			server.Do("SCRIPT", "FLUSH")
			server.Do("ACL", "SETUSER", "tlspolicyd", "-"+command)
			defer server.Do("ACL", "SETUSER", "tlspolicyd", right)
			server.Do("ACL", "LOG", "RESET")
			s := start(t, withUser(t, "redis://tlspolicyd@"+server.Addr+"/1"))
			until(t, "the refusal", func() bool {
				// Without an error, as without a success, there is nothing to see here.
				_ = s.Save(t.Context(), r)
				_, _ = s.Load(t.Context(), r.Domain)
				_, _ = s.RemoveAll(t.Context())
				return strings.Contains(server.Do("ACL", "LOG"), "\n"+command+"\n")
			})
		})
	}
}

func TestPassword(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	protect(t, server)
	o := withUser(t, "redis://tlspolicyd@"+server.Addr)
	log, logs := watched()
	o.Log = log
	r := record(t, "a.example")
	s := start(t, o)
	until(t, "in reach", isUp(s))
	mustSave(t, s, r)

	change := func(file, password string) {
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change(o.PasswordFile, "wrong horse")
	server.Do("CLIENT", "KILL", "USER", "tlspolicyd", "SKIPME", "no")
	until(t, "out of reach", isDown(s))
	_, err := s.Load(t.Context(), r.Domain)
	wantUnknown(t, err)
	for _, want := range []string{`user "tlspolicyd"`, "WRONGPASS"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load: %v, want %q", err, want)
		}
	}
	server.Do("ACL", "SETUSER", "tlspolicyd", "resetpass", ">new horse")
	change(o.PasswordFile, "new horse\r")
	until(t, "in reach", isUp(s))
	wantLoad(t, s, r)
	if len(logs.All()) != 3 {
		t.Errorf("%d lines for up, down, up: %v", len(logs.All()), logs.All())
	}
	for _, e := range logs.All() {
		if text := e.Message + flat(e.ContextMap()); strings.Contains(text, "horse") || strings.Contains(text, "tlspolicyd@") {
			t.Errorf("logged %s", text)
		}
	}
}

// A server that does not know how to let anybody in says what it was told.
func TestPasswordThatIsRepeated(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	for name, password := range map[string]string{"short": secret, "long": strings.Repeat(secret, 20)} {
		o := withUser(t, "redis://tlspolicyd@"+server.Addr)
		o.PasswordFile = write(t, "password", password+"\n")
		log, logs := watched()
		o.Log = log
		s := start(t, o)
		until(t, "a refusal", func() bool { return s.Status().Err != nil })
		_, err := s.Load(t.Context(), domainOf(t, "a.example"))
		wantUnknown(t, err)
		said := fmt.Sprint(err, s.Status(), logs.All())
		if strings.Contains(said, secret) || !strings.Contains(said, "unknown command") {
			t.Errorf("%s: %s", name, said)
		}
	}
}

func TestNoPassword(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis, "--requirepass", secret)
	s := start(t, at(t, server))
	until(t, "out of reach", isDown(s))
	if err := s.Status().Err; err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("Status: %v, want NOAUTH", err)
	}
	o := at(t, server)
	o.PasswordFile = write(t, "password", secret)
	with := start(t, o)
	until(t, "in reach", isUp(with))
}

// What a user may not do is said once, and stops nothing else.
func TestMissingRights(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	protect(t, server)
	server.Do("ACL", "SETUSER", "tlspolicyd", "-info", "-subscribe", "-evalsha", "-eval")
	s := start(t, withUser(t, "redis://tlspolicyd@"+server.Addr))
	awaitBehind(t, s)
	for range 2 * maxFailures {
		err := s.Save(t.Context(), record(t, "a.example"))
		wantUnknown(t, err)
		if err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("Save: %v, want NOPERM", err)
		}
		if _, err := s.Load(t.Context(), domainOf(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
			t.Errorf("Load: %v", err)
		}
	}
	if st := s.Status(); !st.Up || st.Err == nil || !strings.Contains(st.Err.Error(), "NOPERM") {
		t.Errorf("Status = %+v", st)
	}
	server.Do("FLUSHALL")
	awaitBehind(t, s) // the marker says it, where INFO cannot
}

// Whatever right is missing, no key is left behind that never ends.
func TestNoKeyWithoutAnEnd(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	protect(t, server)
	for _, right := range rights(t) {
		command, found := strings.CutPrefix(right, "+")
		if !found || strings.Contains(command, "|") {
			continue
		}
		server.Do("FLUSHALL")
		server.Do("ACL", "SETUSER", "tlspolicyd", "-"+command)
		s := open(t, withUser(t, "redis://tlspolicyd@"+server.Addr))
		_ = s.Save(t.Context(), record(t, "a.example")) // without the right or not
		server.Do("ACL", "SETUSER", "tlspolicyd", right)
		if server.Do("TTL", s.key(domainOf(t, "a.example"))) == "-1" {
			t.Errorf("without %s, a key never ends", command)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := newAuthority(t).sign(t, "192.0.2.1")
	none := filepath.Join(dir, "none")
	plain, encrypted := mustURL(t, "redis://127.0.0.1:1"), mustURL(t, "rediss://127.0.0.1:1")
	for name, o := range map[string]Options{
		"no URL":            {},
		"no host":           {URL: &url.URL{Scheme: "redis"}},
		"another scheme":    {URL: mustURL(t, "http://a")},
		"another kind":      {URL: mustURL(t, "redis+x://a")},
		"no service":        {URL: mustURL(t, "redis+sentinel://a")},
		"database of words": {URL: mustURL(t, "redis://a/b")},
		"no password":       {URL: plain, PasswordFile: none},
		"empty password":    {URL: plain, PasswordFile: write(t, "p", "\n")},
		"two lines":         {URL: plain, PasswordFile: write(t, "p", "a\nb\n")},
		"long password":     {URL: plain, PasswordFile: write(t, "p", strings.Repeat("a", maxPassword+1))},
		"directory":         {URL: plain, PasswordFile: dir},
		"no CA":             {URL: encrypted, CAFile: none},
		"CA is no PEM":      {URL: encrypted, CAFile: write(t, "ca", "x")},
		"no certificate":    {URL: encrypted, CertFile: none, KeyFile: key},
		"no key":            {URL: encrypted, CertFile: cert, KeyFile: none},
		"swapped":           {URL: encrypted, CertFile: key, KeyFile: cert},
	} {
		if s, err := Open(o); err == nil {
			t.Errorf("%s: no error", name)
			s.Close()
		}
	}
}

func TestPasswordThatOthersCanRead(t *testing.T) {
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		log, logs := watched()
		o := Options{URL: mustURL(t, "redis://127.0.0.1:1"), PasswordFile: write(t, "p", secret), Log: log}
		if err := os.Chmod(o.PasswordFile, mode); err != nil {
			t.Fatal(err)
		}
		open(t, o)
		if logs.Len() != want {
			t.Errorf("mode %o: %v", mode, logs.All())
		}
	}
}
