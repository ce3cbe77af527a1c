package config_test

import (
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tlspolicyd/internal/config"
)

func TestAnEmptyFileIsTheDefault(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"comments":         "# nothing\n\n  # here\n",
		"byte order mark":  "\xef\xbb\xbf",
		"document marks":   "---\n",
		"empty mapping":    "{}\n",
		"null":             "~\n",
		"sections emptied": "dns:\n  # timeout: 2s\nsts:\ncache:\n  shared:\n",
		"CRLF":             "dns:\r\n# none\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.Parse("f", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			wantEqual(t, got, config.Default())
		})
	}
}

// The file that packages install says what happens without it.
func TestTheInstalledFileIsTheDefault(t *testing.T) {
	text, err := os.ReadFile("default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse("default.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, got, config.Default())
	want := config.Default().Show()
	if !strings.HasSuffix(string(text), "\n\n"+want) {
		t.Errorf("default.yaml does not end with an empty line and what Show writes:\n%s", want)
	}
	for line := range strings.Lines(strings.TrimSuffix(string(text), want)) {
		if line != "\n" && !strings.HasPrefix(line, "# ") {
			t.Errorf("default.yaml begins with more than comments: %q", line)
		}
	}
}

const fullText = `
listen:
  - "[::1]:8461"
  - :8462
  - localhost:8463
  - unix:/var/spool/postfix/private/tlspolicyd
socket_mode: "660"
smart_hosts: false
dns:
  servers: [127.0.0.1, "::1", 192.0.2.1:5353, "[2001:db8::1]:54", "fe80::1%eth0"]
  timeout: 1500ms
  attempts: 5
  trust_ad: true
sts: {answer_within: 1m30s, fetch_timeout: 0.5m, ca_file: /etc/ssl/ca.pem,
      allow_networks: [10.0.0.0/8, "fd00::/8"], proxy: "http://proxy.example:3128"}
dane:
  enabled: false
cache:
  memory: 1
  disk: 512MiB
  file: none
  recheck: 5m
  refresh: 1d12h
  idle: 30d
  shared:
    url: rediss+sentinel://relay@a.example:26379,b.example:26379/mymaster/3
    password_file: /etc/tlspolicyd/password
    ca_file: /ca
    cert_file: /cert
    key_file: /key
    prefix: "relays/"
admin:
  socket: /run/x/admin.sock
  http: 127.0.0.1:9000
log:
  level: debug
  format: json
`

func full() *config.Config {
	return &config.Config{
		Listen: []config.Address{
			{Network: "tcp", Host: "::1", Port: 8461, Written: "[::1]:8461"},
			{Network: "tcp", Port: 8462, Written: ":8462"},
			{Network: "tcp", Host: "localhost", Port: 8463, Written: "localhost:8463"},
			{Network: "unix", Path: "/var/spool/postfix/private/tlspolicyd", Written: "unix:/var/spool/postfix/private/tlspolicyd"},
		},
		SocketMode: fs.FileMode(0o660),
		DNS: config.DNS{
			Servers: []netip.AddrPort{
				netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53"),
				netip.MustParseAddrPort("192.0.2.1:5353"), netip.MustParseAddrPort("[2001:db8::1]:54"),
				netip.MustParseAddrPort("[fe80::1%eth0]:53"),
			},
			Timeout: 1500 * time.Millisecond, Attempts: 5, TrustAD: true,
		},
		STS: config.STS{
			AnswerWithin: 90 * time.Second, FetchTimeout: 30 * time.Second, CAFile: "/etc/ssl/ca.pem",
			AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
			Proxy:         &url.URL{Scheme: "http", Host: "proxy.example:3128"},
		},
		Cache: config.Cache{
			Memory: 1, Disk: 512 << 20, File: "none",
			Recheck: 5 * time.Minute, Refresh: 36 * time.Hour, Idle: 720 * time.Hour,
			Shared: config.Shared{
				URL: &url.URL{Scheme: "rediss+sentinel", User: url.User("relay"),
					Host: "a.example:26379,b.example:26379", Path: "/mymaster/3"},
				PasswordFile: "/etc/tlspolicyd/password", CAFile: "/ca", CertFile: "/cert", KeyFile: "/key",
				Prefix: "relays/",
			},
		},
		Admin: config.Admin{
			Socket: "/run/x/admin.sock",
			HTTP:   config.Address{Network: "tcp", Host: "127.0.0.1", Port: 9000, Written: "127.0.0.1:9000"},
		},
		Log: config.Log{Level: config.LevelDebug, Format: config.FormatJSON},
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	for name, text := range map[string]string{
		"LF": fullText, "CRLF": strings.ReplaceAll(fullText, "\n", "\r\n"), "as shown": full().Show(),
	} {
		got, err := config.Parse("f", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wantEqual(t, got, full())
	}
}

// Other ways to write what is meant.
func TestValuesInOtherForms(t *testing.T) {
	tests := []struct {
		text string
		got  func(*config.Config) any
		want any
	}{
		{"smart_hosts: False", func(c *config.Config) any { return c.SmartHosts }, false},
		{"\"smart_hosts\": FALSE", func(c *config.Config) any { return c.SmartHosts }, false},
		{"socket_mode: '0600'", func(c *config.Config) any { return c.SocketMode }, fs.FileMode(0o600)},
		{"dns: {timeout: '1.5s'}", func(c *config.Config) any { return c.DNS.Timeout }, 1500 * time.Millisecond},
		{"cache: {idle: 2d0.5h}", func(c *config.Config) any { return c.Cache.Idle }, 48*time.Hour + 30*time.Minute},
		{"cache: {disk: 3TB}", func(c *config.Config) any { return c.Cache.Disk }, config.ByteSize(3e12)},
		{"cache: {disk: 1048576B}", func(c *config.Config) any { return c.Cache.Disk.String() }, "1MiB"},
		{"cache: {file: \"none\"}", func(c *config.Config) any { return c.Cache.File }, "none"},
		{"cache: {shared: {url: \"rediss://[2001:db8::1]:6379/2\"}}", func(c *config.Config) any { return c.Cache.Shared.URL.Host }, "[2001:db8::1]:6379"},
		{"cache: {shared: {url: redis+sentinel://a/m}}", func(c *config.Config) any { return c.Cache.Shared.URL.Path }, "/m"},
		{"cache: {shared: {url: \"rediss+cluster://a:1,b:2,192.0.2.1:3\"}}", func(c *config.Config) any { return c.Cache.Shared.URL.Host }, "a:1,b:2,192.0.2.1:3"},
		{"cache: {shared: {url: rediss+cluster://a}}", func(c *config.Config) any { return c.Cache.Shared.TLS() }, true},
		{"cache: {shared: {url: redis+cluster://a}}", func(c *config.Config) any { return c.Cache.Shared.TLS() }, false},
		{"dns: {servers: [\"[::1]\"]}", func(c *config.Config) any { return c.DNS.Servers[0].String() }, "[::1]:53"},
		{"dns: {servers: [\"::ffff:192.0.2.1\"]}", func(c *config.Config) any { return c.DNS.Servers[0].String() }, "192.0.2.1:53"},
		{"listen: [\"unix:/a b/ü\"]", func(c *config.Config) any { return c.Listen[0].Path }, "/a b/ü"},
		{"listen: # one\n  # two\n  - 127.0.0.1:1 # three", func(c *config.Config) any { return c.Listen[0].String() }, "127.0.0.1:1"},
	}
	for _, tt := range tests {
		c, err := config.Parse("f", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
		} else if got := tt.got(c); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestAnEmptyListIsNone(t *testing.T) {
	got, err := config.Parse("f", []byte("listen: []\ndns: {servers: []}\nsts: {allow_networks: []}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Listen = nil
	wantEqual(t, got, want)
}

func TestLoadReadsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(fullText), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, got, full())
}

func TestStoreFile(t *testing.T) {
	for file, want := range map[string]string{"": "/state/policies.db", "none": "", "/x/y.db": "/x/y.db"} {
		c := config.Cache{File: file}
		got, ok := c.StoreFile("/state")
		if got != want || ok != (want != "") {
			t.Errorf("cache.file %q: got %q, %v, want %q", file, got, ok, want)
		}
	}
}

func TestSocketPath(t *testing.T) {
	for socket, want := range map[string]string{"": "/run/t/admin.sock", "/x/a": "/x/a"} {
		a := config.Admin{Socket: socket}
		if got := a.SocketPath("/run/t"); got != want {
			t.Errorf("admin.socket %q: got %q, want %q", socket, got, want)
		}
	}
}

func wantEqual(t *testing.T, got, want *config.Config) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\n%+v\nwant\n%s\n%+v", got.Show(), got, want.Show(), want)
	}
}
