package redisstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// wire speaks to a server on a connection of its own: to sentinels, and for
// the subscription. There the library would start goroutines that nobody waits
// for, believe the form of what is answered, and find out late that a peer is
// gone.
type wire struct {
	net.Conn
	rd *bufio.Reader
}

func newWire(conn net.Conn) *wire {
	return &wire{conn, bufio.NewReaderSize(conn, 4<<10)}
}

// reply is what a server says: a text, or items. Strings that are longer than
// maxText are given as empty.
type reply struct {
	text  string
	items []reply
}

const (
	maxText  = 4 << 10
	maxItems = 16
)

// answerError is what a server says is wrong; the library classifies it as an
// answer.
type answerError string

func (e answerError) Error() string { return string(e) }

// RedisError marks an answer of the server.
func (answerError) RedisError() {}

// send writes a command.
func (w *wire) send(args ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	_, err := io.WriteString(w.Conn, b.String())
	return err
}

// ask writes a command and reads the answer.
func (w *wire) ask(args ...string) (reply, error) {
	if err := w.send(args...); err != nil {
		return reply{}, err
	}
	return w.read()
}

// read reads the next reply. An answerError leaves the connection usable.
func (w *wire) read() (reply, error) { return readReply(w.rd, 0) }

func readReply(rd *bufio.Reader, depth int) (reply, error) {
	raw, err := rd.ReadSlice('\n')
	if err != nil {
		return reply{}, notTooLong(err)
	}
	line := strings.TrimSuffix(string(raw), "\r\n")
	if line == "" {
		return reply{}, errNotRedis
	}
	switch rest := line[1:]; line[0] {
	case '+', ':':
		return reply{text: rest}, nil
	case '-':
		return reply{}, answerError(rest)
	case '$':
		return readText(rd, rest)
	case '*':
		return readItems(rd, rest, depth)
	}
	return reply{}, errNotRedis
}

func notTooLong(err error) error {
	if errors.Is(err, bufio.ErrBufferFull) {
		return errNotRedis
	}
	return err
}

func readText(rd *bufio.Reader, length string) (reply, error) {
	n, err := strconv.Atoi(length)
	switch {
	case err != nil, n < -1, n > maxBulk:
		return reply{}, errNotRedis
	case n == -1:
		return reply{}, nil
	case n > maxText:
		_, err := rd.Discard(n + len("\r\n"))
		return reply{}, err
	}
	b := make([]byte, n+len("\r\n"))
	if _, err := io.ReadFull(rd, b); err != nil {
		return reply{}, err
	}
	return reply{text: string(b[:n])}, nil
}

func readItems(rd *bufio.Reader, count string, depth int) (reply, error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < -1 || n > maxItems || depth > 2 {
		return reply{}, errNotRedis
	}
	var r reply
	for range max(n, 0) {
		item, err := readReply(rd, depth+1)
		if err != nil {
			return reply{}, err
		}
		r.items = append(r.items, item)
	}
	return r, nil
}
