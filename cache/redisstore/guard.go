package redisstore

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
)

// What a server may announce. Room is made for that before the bytes are there,
// so a server that means harm, or is none, could take any amount of memory.
const (
	maxBulk     = 256 << 10 // bytes of a string
	maxLine     = 64 << 10  // bytes of any other reply
	maxElements = 64 << 10  // that are outstanding
	maxDepth    = 16        // of arrays in arrays
	maxHead     = 24        // bytes of a line that holds a number
)

var (
	errNotRedis = errors.New("the server answers what no Redis does")
	errHalf     = errors.New("the server fell silent in the middle of a reply")
)

// guard follows the framing of what a server says (RESP 2), and ends a
// connection on which it announces more than makes sense.
type guard struct {
	net.Conn
	framing framing
}

// pollable is a guard of which it can be seen without reading whether it was
// closed from afar.
type pollable struct {
	*guard
	syscall.Conn
}

func guarded(conn net.Conn) net.Conn {
	g := &guard{Conn: conn}
	if raw, ok := conn.(syscall.Conn); ok {
		return pollable{g, raw}
	}
	return g
}

// Read also ends a connection that falls silent within a reply: the library
// would go on in the middle of it as if it were the next one.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if bad := g.framing.follow(p[:n]); bad != nil {
		return 0, bad
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !g.framing.between() {
		return n, errHalf
	}
	return n, err
}

// framing is where in a reply the next byte is.
type framing struct {
	skip   int    // bytes of a string that are not yet there
	head   []byte // of a line, as far as it matters
	length int    // of that line
	open   []int  // elements that are outstanding, by depth
	sum    int    // of open
}

// between reports whether no reply has begun that has not ended.
func (f *framing) between() bool { return f.skip == 0 && f.length == 0 && f.sum == 0 }

func (f *framing) follow(b []byte) error {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip, b = f.skip-n, b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		if c == '\n' {
			if err := f.line(); err != nil {
				return err
			}
			continue
		}
		if f.length++; f.length > maxLine {
			return errNotRedis
		}
		if len(f.head) < maxHead && c != '\r' {
			f.head = append(f.head, c)
		}
	}
	return nil
}

// line takes note of a line that is complete.
func (f *framing) line() error {
	head, length := f.head, f.length
	f.head, f.length = f.head[:0], 0
	if len(head) == 0 {
		return errNotRedis
	}
	switch head[0] {
	case '+', '-', ':':
		f.leaf()
		return nil
	case '$', '*':
	default:
		return errNotRedis
	}
	if length > maxHead { // only its beginning is known
		return errNotRedis
	}
	n, err := strconv.Atoi(string(head[1:]))
	switch {
	case err != nil, n < -1, n > maxBulk:
		return errNotRedis
	case n == -1:
		f.leaf()
	case head[0] == '$':
		f.skip = n + len("\r\n")
		f.leaf()
	default:
		return f.array(n)
	}
	return nil
}

func (f *framing) array(n int) error {
	if n == 0 {
		f.leaf()
		return nil
	}
	f.open, f.sum = append(f.open, n), f.sum+n
	if len(f.open) > maxDepth || f.sum > maxElements {
		return errNotRedis
	}
	return nil
}

// leaf takes note of an element, and of every array that ends with it.
func (f *framing) leaf() {
	for len(f.open) > 0 {
		last := len(f.open) - 1
		f.open[last]--
		f.sum--
		if f.open[last] > 0 {
			return
		}
		f.open = f.open[:last]
	}
}
