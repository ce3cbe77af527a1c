package socketmap_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/socketmap"
)

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "sock") }

// listen opens a listener that is closed after the test.
func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := socketmap.Listen(addr, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// crash leaves a socket behind on which nobody answers.
func crash(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListenMode(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		for _, mode := range []fs.FileMode{0o666, 0o660, 0o600, 0o777, 0} {
			path := socketPath(t)
			old := syscall.Umask(umask)
			l, err := socketmap.Listen("unix:"+path, mode)
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			file, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := file.Mode().Perm(); got != mode {
				t.Errorf("umask %04o, mode %04o: the socket has %04o", umask, mode, got)
			}
			l.Close()
		}
	}
}

func TestListenRemovesStaleSocket(t *testing.T) {
	path := socketPath(t)
	crash(t, path)
	l := listen(t, "unix:"+path)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("nobody answers on the new socket: %v", err)
	}
	nc.Close()
	l.Close()
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestListenLeavesAlone(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"a live socket", func(t *testing.T, path string) { listen(t, "unix:"+path) }, socketmap.ErrInUse},
		{"a live socket of another kind", func(t *testing.T, path string) {
			nc, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
		}, socketmap.ErrInUse},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, socketmap.ErrNotSocket},
		{"an empty file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, socketmap.ErrNotSocket},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, socketmap.ErrNotSocket},
		{"a link to a stale socket", func(t *testing.T, path string) {
			crash(t, path+".target")
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		}, socketmap.ErrNotSocket},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := socketPath(t)
			tt.make(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			l, err := socketmap.Listen("unix:"+path, 0o666)
			if err == nil {
				l.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) || before.Mode() != after.Mode() {
				t.Errorf("it was changed: %v, %v", after, err)
			}
		})
	}
}

func TestListenRejects(t *testing.T) {
	for _, addr := range []string{"", "localhost", ":", "localhost:", "unix:", "unix:relative/sock", "unix:/nonexistent/dir/sock", "127.0.0.1:99999"} {
		if l, err := socketmap.Listen(addr, 0o600); err == nil {
			t.Errorf("Listen(%q) succeeded", addr)
			l.Close()
		}
	}
}

// A second instance must not start beside the first.
func TestListenTwice(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	second, err := socketmap.Listen(l.Addr().String(), 0)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error is %v, want EADDRINUSE", err)
	}
	if err == nil {
		second.Close()
	}
}

// Only its own socket is removed when a listener is closed.
func TestCloseRemovesOnlyItsOwn(t *testing.T) {
	path := socketPath(t)
	old := listen(t, "unix:"+path)
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Millisecond) // the clock of files is coarse
	fresh := listen(t, "unix:"+path)
	if err := old.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's socket is gone: %v", err)
	}
	fresh.Close()
	fresh.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestExposed(t *testing.T) {
	tests := []struct {
		addr net.Addr
		want bool
	}{
		{&net.UnixAddr{Name: "/run/sock", Net: "unix"}, false},
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
		{&net.TCPAddr{IP: net.IPv4(127, 1, 2, 3)}, false},
		{&net.TCPAddr{IP: net.IPv6loopback}, false},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1")}, false},
		{&net.TCPAddr{IP: net.IPv4zero}, true},
		{&net.TCPAddr{IP: net.IPv6unspecified}, true},
		{&net.TCPAddr{}, true},
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, true},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, true},
		{&net.UDPAddr{IP: net.IPv6loopback}, true},
	}
	for _, tt := range tests {
		if got := socketmap.Exposed(addrListener{tt.addr}); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.addr, got, tt.want)
		}
	}
}

// addrListener has an address, and nothing else.
type addrListener struct{ addr net.Addr }

func (l addrListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (l addrListener) Close() error              { return nil }
func (l addrListener) Addr() net.Addr            { return l.addr }
