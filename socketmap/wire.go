package socketmap

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// errNothing is what is read where nothing has arrived.
var errNothing = errors.New("nothing has arrived")

// wire is what requests are read from, and answers written to.
type wire interface {
	// Read reads what has arrived. If there is nothing, it waits, or returns
	// errNothing.
	io.Reader
	// tryWrite writes as much of p as it can without waiting, and returns how much
	// that was.
	tryWrite(p []byte) int
	// each calls arrived at once, and then whenever something may have arrived,
	// until that returns an error, or, which is none, until the read deadline. Read
	// and tryWrite are for arrived, and for nobody else.
	each(arrived func() error) error
	// drained reports whether the last Read left nothing behind, most likely: had there
	// been more, it would have returned more, but for the client's end, and for what
	// comes with urgent data or descriptors.
	drained() bool
	// hangUp lets nothing more be written, and ends what waits to be read or written;
	// what had arrived may still be read. It may be called at any time. The connection
	// is still to be closed by who serves it.
	hangUp()
}

func newWire(s *Server, nc net.Conn) wire {
	if socket, ok := newSocket(s, nc); ok {
		return socket
	}
	return &stream{Conn: nc}
}

// socket is the wire of a TCP or Unix socket. It saves half of the calls of the
// kernel that a [net.Conn] makes, and what Go's scheduler does around them, which
// take more of the CPU than all that an answer from memory takes beside them.
//
// A net.Conn asks the kernel before it waits, in vain if the client waits for its
// answer, and again afterwards. A socket waits first. It may do so only after it
// has read all that there was, and within one call of each: whatever arrives from
// then on ends the wait, once. [syscall.RawConn] keeps in mind what arrives while
// arrived runs, and forgets it when each begins: so each begins with a look.
type socket struct {
	netSocket
	raw syscall.RawConn
	// crowded says that others wait for the CPU, most likely.
	crowded *atomic.Bool
	// fd is good while arrived runs.
	fd   uintptr
	full bool // the last Read filled its buffer
}

// netSocket is a [net.TCPConn] or a [net.UnixConn]. One within another type would be read
// and written past the methods of that.
type netSocket interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

func newSocket(s *Server, nc net.Conn) (*socket, bool) {
	ns, ok := nc.(netSocket)
	if !ok {
		return nil, false
	}
	raw, err := ns.SyscallConn()
	return &socket{netSocket: ns, raw: raw, crowded: &s.crowded}, err == nil
}

func (s *socket) each(arrived func() error) (end error) {
	err := s.raw.Read(func(fd uintptr) (done bool) {
		s.fd = fd
		end = arrived()
		return end != nil
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return err
	default:
		return end
	}
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := s.call(syscall.SYS_READ, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.full = false
			return 0, errNothing
		case err != 0:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		s.full = n == len(p)
		return n, nil
	}
}

func (s *socket) tryWrite(p []byte) int {
	n, err := s.call(syscall.SYS_WRITE, p)
	if err != 0 {
		return 0
	}
	return n
}

// call makes a call of the kernel, which does not wait, as sockets of Go do not. But
// when an answer is written, the kernel often goes on with the client at once. If Go
// knows of the call, another thread then takes over what this one was to do, which
// costs more than to wait, unless there is a crowd that would wait.
func (s *socket) call(number uintptr, p []byte) (int, syscall.Errno) {
	start, size := unsafe.SliceData(p), uintptr(len(p))
	if s.crowded.Load() {
		n, _, err := syscall.Syscall(number, s.fd, uintptr(unsafe.Pointer(start)), size)
		return int(n), err
	}
	n, _, err := syscall.RawSyscall(number, s.fd, uintptr(unsafe.Pointer(start)), size)
	return int(n), err
}

func (s *socket) drained() bool { return !s.full }

// hangUp shuts both halves down, since Close would wait for arrived to return.
func (s *socket) hangUp() {
	_ = s.CloseRead() // fails if there is nothing to end
	_ = s.CloseWrite()
}

// stream is the wire of a connection that is no socket. It cannot tell whether anything
// has arrived: its first Read finds nothing, and the others wait.
type stream struct {
	net.Conn
	waits bool
}

func (s *stream) Read(p []byte) (int, error) {
	if !s.waits {
		s.waits = true
		return 0, errNothing
	}
	return s.Conn.Read(p)
}

func (s *stream) each(arrived func() error) error {
	for {
		if err := arrived(); err != nil {
			return err
		}
	}
}

func (*stream) tryWrite([]byte) int { return 0 }

func (*stream) drained() bool { return false }

func (s *stream) hangUp() { _ = s.Close() } // for the second time, maybe
