package dnsclient

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// list shows servers, those whose AD bit counts with a plus sign.
func list(servers []endpoint) string {
	var s []string
	for _, e := range servers {
		text := e.addr.String()
		if e.trustAD {
			text += "+"
		}
		s = append(s, text)
	}
	return strings.Join(s, " ")
}

func TestParseResolvConf(t *testing.T) {
	const local = "127.0.0.1:53+ [::1]:53+"
	tests := []struct{ what, text, want string }{
		{"empty", "", local},
		{"only comments", "# nameserver 192.0.2.1\n; nameserver 192.0.2.1\n", local},
		{"one", "nameserver 192.0.2.1\n", "192.0.2.1:53"},
		{"no final newline", "nameserver 192.0.2.1", "192.0.2.1:53"},
		{"CRLF and tabs", "nameserver\t192.0.2.1\r\n", "192.0.2.1:53"},
		{"a comment behind", "nameserver 192.0.2.1 # x", "192.0.2.1:53"},
		{"order", "nameserver 192.0.2.2\nnameserver 192.0.2.1\n", "192.0.2.2:53 192.0.2.1:53"},
		{"three at most", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4", "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53"},
		{"IPv6", "nameserver 2001:db8::1\nnameserver ::1", "[2001:db8::1]:53 [::1]:53+"},
		{"IPv6 with a zone", "nameserver fe80::1%eth0", "[fe80::1%eth0]:53"},
		{"IPv4 in IPv6", "nameserver ::ffff:127.0.0.1", "127.0.0.1:53+"},
		{"unspecified is this host", "nameserver 0.0.0.0\nnameserver ::", local},
		{"no address", "nameserver\nnameserver dns.example\nnameserver 192.0.2.1:53\nnameserver 192.0.2.1", "192.0.2.1:53"},
		{"multicast", "nameserver 224.0.0.251", local},
		{"systemd-resolved", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .", "127.0.0.53:53+"},
		{"trust-ad before", "options trust-ad\nnameserver 192.0.2.1", "192.0.2.1:53+"},
		{"trust-ad behind", "nameserver 192.0.2.1\noptions rotate timeout:9 attempts:9 trust-ad", "192.0.2.1:53+"},
		{"no-trust", "nameserver 192.0.2.1\noptions trust-adx no-trust-ad", "192.0.2.1:53"},
		{"trust-ad in a comment", "nameserver 192.0.2.1\n#options trust-ad\noptions # trust-ad", "192.0.2.1:53"},
		{"other keywords", "domain example.com\nsearch a b\nsortlist x\nnameservers 192.0.2.9\nnameserver 192.0.2.1", "192.0.2.1:53"},
	}
	for _, tt := range tests {
		servers, _ := parseResolvConf([]byte(tt.text), untrusted)
		if got := list(servers); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.what, got, tt.want)
		}
	}
	servers, _ := parseResolvConf([]byte("nameserver 192.0.2.1"), trusted)
	if got := list(servers); got != "192.0.2.1:53+" {
		t.Errorf("with TrustAD: got %q", got)
	}
}

// past is a time at which a file may have been changed long ago.
func past(n int) time.Time { return time.Now().Add(-time.Hour + time.Duration(n)*time.Second) }

// put writes a file that was changed at the n-th second of the past.
func put(t *testing.T, path, text string, n int) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, past(n), past(n)); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func servers(s *source) string {
	var l []endpoint
	for _, srv := range s.pool.Load().servers {
		l = append(l, srv.endpoint)
	}
	return list(l)
}

func follow(path string) *source {
	return followed(&resolvFile{path: path}, zap.NewNop())
}

func TestResolvConfIsFollowed(t *testing.T) {
	const one, two = "nameserver 192.0.2.1\n", "nameserver 192.0.2.2\n"
	tests := map[string]struct {
		change func(t *testing.T, dir, path string)
		want   string
	}{
		"nothing": {func(*testing.T, string, string) {}, "192.0.2.1:53"},
		"edited in place, same size": {func(t *testing.T, _, path string) {
			put(t, path, two, 1)
		}, "192.0.2.2:53"},
		"edited in place, same time": {func(t *testing.T, _, path string) {
			put(t, path, two+two, 0)
		}, "192.0.2.2:53 192.0.2.2:53"},
		"renamed over, same size and time": {func(t *testing.T, dir, path string) {
			put(t, filepath.Join(dir, "new"), two, 0)
			must(t, os.Rename(filepath.Join(dir, "new"), path))
		}, "192.0.2.2:53"},
		"now a symbolic link": {func(t *testing.T, dir, path string) {
			put(t, filepath.Join(dir, "new"), two, 0)
			must(t, os.Remove(path))
			must(t, os.Symlink("new", path))
		}, "192.0.2.2:53"},
		"gone": {func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
		}, "192.0.2.1:53"},
		"now a directory": {func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		}, "192.0.2.1:53"},
		"now a dangling link": {func(t *testing.T, _, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("nowhere", path))
		}, "192.0.2.1:53"},
		"emptied just now": {func(t *testing.T, _, path string) {
			must(t, os.WriteFile(path, nil, 0o644))
		}, "192.0.2.1:53"},
		"emptied some time ago": {func(t *testing.T, _, path string) {
			put(t, path, "", 1)
		}, "127.0.0.1:53+ [::1]:53+"},
		"trusted now": {func(t *testing.T, _, path string) {
			put(t, path, one+"options trust-ad\n", 1)
		}, "192.0.2.1:53+"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "resolv.conf")
			put(t, path, one, 0)
			s := follow(path)
			if got := servers(s); got != "192.0.2.1:53" {
				t.Fatalf("at first: %s", got)
			}
			tt.change(t, dir, path)
			s.look()
			s.look()
			if got := servers(s); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestResolvConfBehindASymlink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	put(t, filepath.Join(dir, "one"), "nameserver 192.0.2.1\n", 0)
	put(t, filepath.Join(dir, "two"), "nameserver 192.0.2.2\n", 0)
	must(t, os.Symlink("one", path))
	s := follow(path)
	must(t, os.Symlink("two", path+".new"))
	must(t, os.Rename(path+".new", path))
	s.look()
	if got := servers(s); got != "192.0.2.2:53" {
		t.Errorf("after a swap of the link: %s", got)
	}
	put(t, filepath.Join(dir, "two"), "nameserver 192.0.2.3\n", 1)
	s.look()
	if got := servers(s); got != "192.0.2.3:53" {
		t.Errorf("after a change of the target: %s", got)
	}
}

// A file that is changed while it is as young as the clock of the file system
// is coarse looks unchanged. It is read until it has settled.
func TestYoungResolvConfIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	now := time.Now()
	write := func(text string) {
		must(t, os.WriteFile(path, []byte(text), 0o644))
		must(t, os.Chtimes(path, now, now))
	}
	write("nameserver 192.0.2.1\n")
	s := follow(path)
	write("nameserver 192.0.2.2\n")
	s.look()
	if got := servers(s); got != "192.0.2.2:53" {
		t.Errorf("got %s", got)
	}
}

func TestMissingResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	core, logs := observer.New(zap.InfoLevel)
	s := followed(&resolvFile{path: path}, zap.New(core))
	if got := servers(s); got != "127.0.0.1:53+ [::1]:53+" {
		t.Errorf("without a file: %s", got)
	}
	s.look()
	s.look()
	if got := logs.Len(); got != 1 {
		t.Errorf("%d messages about a missing file, want 1", got)
	}
	put(t, path, "nameserver 192.0.2.1\n", 0)
	s.look()
	if got := servers(s); got != "192.0.2.1:53" {
		t.Errorf("once there is a file: %s", got)
	}
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o755))
	s.look()
	if got := logs.All()[logs.Len()-1]; got.Level != zap.WarnLevel {
		t.Errorf("last message: %v", got)
	}
}

// The file is looked at once a second, not once a query.
func TestResolvConfIsLookedAtOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		put(t, path, "nameserver 192.0.2.1\n", 0)
		s := follow(path)
		put(t, path, "nameserver 192.0.2.2\n", 1)
		time.Sleep(lookEvery - 1)
		s.current()
		if got := servers(s); got != "192.0.2.1:53" {
			t.Errorf("before the second is over: %s", got)
		}
		time.Sleep(time.Nanosecond)
		s.current()
		if got := servers(s); got != "192.0.2.2:53" {
			t.Errorf("after one second: %s", got)
		}
		put(t, path, "nameserver 192.0.2.3\n", 2)
		s.current()
		if got := servers(s); got != "192.0.2.2:53" {
			t.Errorf("at once after a look: %s", got)
		}
	})
}

func TestServersKeepTheirStateAcrossChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	put(t, path, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n", 0)
	s := follow(path)
	before := s.pool.Load().servers
	put(t, path, "nameserver 192.0.2.2\nnameserver 192.0.2.3\n", 1)
	s.look()
	after := s.pool.Load().servers
	if after[0] != before[1] {
		t.Error("192.0.2.2 was forgotten")
	}
	if slices.Contains(before, after[1]) {
		t.Error("192.0.2.3 has the state of another server")
	}
	put(t, path, "# changed\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n", 2)
	pool := s.pool.Load()
	s.look()
	if s.pool.Load() != pool {
		t.Error("the same servers make a new pool")
	}
}

func TestUnreadableResolvConfAtStart(t *testing.T) {
	s := follow(t.TempDir())
	if got := servers(s); got != "127.0.0.1:53+ [::1]:53+" {
		t.Errorf("got %s", got)
	}
}
