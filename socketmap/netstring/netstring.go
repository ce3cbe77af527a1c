// Package netstring reads and writes netstrings: the length of a payload as a
// decimal number, a colon, the payload, a comma.
//
// It knows nothing of what a payload means. It does no buffering of what is
// written, sets no deadlines and closes nothing.
//
// Reading is strict: digits only, no leading zero except in "0:,", no length
// above the reader's limit, which is noticed before the payload is read and
// before memory is taken for it. A reader holds one buffer of at most the
// limit and a few bytes; a frame is a slice of that buffer.
//
// Specification: D. J. Bernstein, "Netstrings", 1997, as Postfix uses it
// (socketmap_table(5)).
package netstring

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Why a frame cannot be read. After either of them the stream is of no use any
// more, since nobody knows where the next frame begins.
var (
	ErrSyntax  = errors.New("malformed netstring")
	ErrTooLong = errors.New("netstring is too long")
)

// Sizes of a reader's buffer, in bytes.
const (
	firstBuffer = 512     // what a reader begins with
	keptBuffer  = 4 << 10 // what Release leaves alone
)

// maxEmptyReads is how often in a row an underlying reader may return nothing.
const maxEmptyReads = 100

// Reader reads netstrings from a stream. It is not safe for concurrent use.
type Reader struct {
	r     io.Reader
	limit int
	// buf[start:end] has been read from r, and not yet been given out.
	buf        []byte
	start, end int
}

// NewReader returns a reader of the netstrings in r with payloads of up to
// limit bytes.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: r, limit: limit}
}

// Reset has the reader read from another stream, as if nothing had been read.
func (r *Reader) Reset(from io.Reader) {
	r.r, r.start, r.end = from, 0, 0
}

// ReadFrame returns the payload of the next netstring. It stays valid until the
// next call of a method.
//
// At the end of the stream the error is io.EOF between two netstrings, and
// io.ErrUnexpectedEOF within one. It wraps [ErrSyntax] or [ErrTooLong] for
// what cannot be read, and is the stream's own otherwise.
func (r *Reader) ReadFrame() ([]byte, error) {
	for {
		h, err := r.scan()
		if err != nil {
			return nil, err
		}
		if h.complete {
			return r.take(h)
		}
		if err := r.fill(h.need); err != nil {
			return nil, err
		}
	}
}

// Buffered reports whether ReadFrame would return without reading from the
// stream: a frame, or the error of a malformed one.
func (r *Reader) Buffered() bool {
	if r.start == r.end {
		return false
	}
	h, err := r.scan()
	return err != nil || h.complete
}

// Pending reports whether anything has been read from the stream that
// ReadFrame has not returned.
func (r *Reader) Pending() bool { return r.start < r.end }

// Release gives a large buffer back that holds no data. It is for readers that
// are about to wait for long.
func (r *Reader) Release() {
	if r.start == r.end && cap(r.buf) > keptBuffer {
		r.buf, r.start, r.end = nil, 0, 0
	}
}

// header is what is known of the next frame.
type header struct {
	// complete says that all of the frame is in the buffer.
	complete bool
	// digits is the length of the length, size the length of the payload.
	digits, size int
	// need is how many bytes the frame has at least, with all around it.
	need int
}

// scan looks at the beginning of the next frame.
func (r *Reader) scan() (header, error) {
	data := r.buf[r.start:r.end]
	size := 0
	for i, c := range data {
		if c == ':' && i > 0 {
			need := i + 1 + size + 1
			return header{complete: len(data) >= need, digits: i, size: size, need: need}, nil
		}
		if c < '0' || c > '9' {
			return header{}, fmt.Errorf("%w: %q in the length", ErrSyntax, c)
		}
		if i == 1 && data[0] == '0' {
			return header{}, fmt.Errorf("%w: length with a leading zero", ErrSyntax)
		}
		digit := int(c - '0')
		if size > r.limit/10 || size*10+digit > r.limit {
			return header{}, fmt.Errorf("%w: limit is %d bytes", ErrTooLong, r.limit)
		}
		size = size*10 + digit
	}
	return header{need: len(data) + 1}, nil
}

// take gives out the frame at the beginning of the buffer.
func (r *Reader) take(h header) ([]byte, error) {
	first := r.start + h.digits + 1
	last := first + h.size
	if c := r.buf[last]; c != ',' {
		return nil, fmt.Errorf("%w: %q in place of the comma", ErrSyntax, c)
	}
	r.start = last + 1
	return r.buf[first:last:last], nil
}

// fill reads once, into a buffer with room for a frame of need bytes.
func (r *Reader) fill(need int) error {
	r.makeRoom(need)
	for range maxEmptyReads {
		n, err := r.r.Read(r.buf[r.end:])
		r.end += n
		switch {
		case n > 0:
			return nil // an error that came along comes again
		case err == io.EOF && r.start < r.end:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// makeRoom moves what is left to the beginning of the buffer, and grows it if
// a frame of need bytes does not fit.
func (r *Reader) makeRoom(need int) {
	buf := r.buf
	if need > len(buf) {
		buf = make([]byte, max(need, firstBuffer, min(2*len(buf), keptBuffer)))
	}
	r.end = copy(buf, r.buf[r.start:r.end])
	r.start, r.buf = 0, buf
}

// Append appends the netstring whose payload is parts, one after the other,
// and returns the extended buffer.
func Append(dst []byte, parts ...string) []byte {
	return AppendTail(dst, nil, parts...)
}

// AppendTail does what Append does with a payload that is parts and then tail.
func AppendTail(dst, tail []byte, parts ...string) []byte {
	size := len(tail)
	for _, p := range parts {
		size += len(p)
	}
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, ':')
	for _, p := range parts {
		dst = append(dst, p...)
	}
	dst = append(dst, tail...)
	return append(dst, ',')
}
