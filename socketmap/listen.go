package socketmap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Why a Unix socket cannot be opened.
var (
	// ErrInUse: another process answers on the socket.
	ErrInUse = errors.New("another process listens there")
	// ErrNotSocket: something else than a socket has the name.
	ErrNotSocket = errors.New("exists, and is not a socket")
)

// probeTimeout is how long a process may take to answer on a socket that is
// there already. (A process that listens need not do anything for it.)
const probeTimeout = time.Second

// Listen opens a listener at addr, "host:port" or "unix:/path".
//
// A Unix socket gets exactly the permissions of mode, whatever the umask is,
// and at no time more. A socket that a crash has left is removed: one on which
// nobody answers. Anything else of that name is left alone, and is an error
// that wraps [ErrInUse] or [ErrNotSocket]. Close removes the file, if it is
// still that of the listener.
func Listen(addr string, mode fs.FileMode) (net.Listener, error) {
	network, address := splitAddr(addr)
	if network == "unix" {
		l, err := listenUnix(address, mode.Perm())
		if err != nil {
			return nil, fmt.Errorf("listening on %q: %w", addr, err)
		}
		return l, nil
	}
	l, err := listenTCP(address)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", addr, err)
	}
	return l, nil
}

// Exposed reports whether l can be reached from other machines: whether it is
// neither a Unix socket nor bound to a loopback address.
func Exposed(l net.Listener) bool {
	switch a := l.Addr().(type) {
	case *net.UnixAddr:
		return false
	case *net.TCPAddr:
		return !a.IP.IsLoopback()
	default:
		return true
	}
}

// splitAddr returns the network and the address of addr.
func splitAddr(addr string) (network, address string) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "unix", path
	}
	return "tcp", addr
}

// listenTCP wants a port: without one, any would do for the system.
func listenTCP(address string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if port == "" {
		return nil, errors.New("no port given")
	}
	var config net.ListenConfig
	return config.Listen(context.Background(), "tcp", address)
}

// unixListener is a listener whose file is its own to remove.
type unixListener struct {
	*net.UnixListener
	path string
	file fs.FileInfo

	once sync.Once
	err  error
}

func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("the path of a Unix socket must begin with a slash")
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// Linux makes the file with the permissions of the descriptor, less the
	// umask: they are never more than asked for.
	config := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if e := rc.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(mode)) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	file, err := setMode(path, mode)
	if err != nil {
		ul.Close()
		return nil, err
	}
	return &unixListener{UnixListener: ul, path: path, file: file}, nil
}

// setMode gives back to the new socket at path what the umask took from it.
// Were the file replaced by a link meanwhile, the link would not be followed
// out of the directory.
func setMode(path string, mode fs.FileMode) (fs.FileInfo, error) {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	name := filepath.Base(path)
	if err := dir.Chmod(name, mode); err != nil {
		return nil, err
	}
	file, err := dir.Lstat(name)
	if err != nil {
		return nil, err
	}
	if file.Mode().Type() != fs.ModeSocket || file.Mode().Perm() != mode {
		return nil, fmt.Errorf("the new socket has mode %s", file.Mode())
	}
	return file, nil
}

// removeStale removes the socket at path if nobody answers on it.
func removeStale(path string) error {
	file, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if file.Mode().Type() != fs.ModeSocket {
		return ErrNotSocket
	}
	dialer := net.Dialer{Timeout: probeTimeout}
	nc, err := dialer.DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		nc.Close()
		return ErrInUse
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone since
	case !errors.Is(err, syscall.ECONNREFUSED):
		// No permission, a full queue, a socket of another kind: somebody
		// may be there.
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return moveAway(path, file)
}

// moveAway removes file from path. Another process may do the same at the same
// time and have opened its own socket since: that is seen once the file is out
// of the way, and put back.
func moveAway(path string, file fs.FileInfo) error {
	away := fmt.Sprintf("%s.stale.%d", path, os.Getpid())
	if err := os.Rename(path, away); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	moved, err := os.Lstat(away)
	if err != nil {
		return err
	}
	if !sameFile(moved, file) {
		return errors.Join(ErrInUse, os.Link(away, path), os.Remove(away))
	}
	return os.Remove(away)
}

// sameFile reports whether a and b are one file. A number of an inode may have
// been used again, but not with the same time.
func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime())
}

// Close removes the file and closes the listener, in this order: as long as it
// listens, nobody else takes the file for a stale one and replaces it.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if file, err := os.Lstat(l.path); err == nil && sameFile(file, l.file) {
			os.Remove(l.path)
		}
		l.err = l.UnixListener.Close()
	})
	return l.err
}
