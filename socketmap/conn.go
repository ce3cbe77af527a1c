package socketmap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/socketmap/netstring"
)

const (
	// lateFlush is how long an answer waits for those of the requests that
	// came with it.
	lateFlush = time.Millisecond
	// maxPending is how many bytes of answers wait together.
	maxPending = 32 << 10
	// keptPending is the size of a buffer that an idle connection keeps.
	keptPending = 4 << 10
	// lastWait is how long an idle connection may take to bring its last
	// request when the server shuts down.
	lastWait = 250 * time.Millisecond
	// A client is in a hurry whose last two requests came within hurry. After the
	// answer to such a one it is not looked whether anything has arrived meanwhile:
	// hardly ever anything has, and if so the wait ends at once, unless it came together
	// with the request (see wire.drained). For that it is looked when nothing has come
	// for lookAfter, or up to twice that.
	hurry     = 10 * time.Millisecond
	lookAfter = time.Second
)

// conn is a connection. All but what is said otherwise belongs to the
// goroutine that serves it.
type conn struct {
	srv  *Server
	nc   net.Conn
	wire wire
	buffers
	// mapName is the map that was asked last: usually the next one too.
	mapName string

	// asked is when the last request was read.
	asked time.Time
	// While a request is answered that may take long, out is lent to timer, whose
	// function writes it; late tells that it has done so.
	timer *time.Timer
	late  chan error

	// askedBefore is what asked was when the connection became idle for the last time.
	// lookAt is the read deadline of an idle connection, at which it is looked whether
	// anything is there. Both are times since Server.start.
	askedBefore, lookAt time.Duration

	// idleSince is when the last request of an idle connection was read, busy while
	// one is answered, and closedIdle if the connection was closed while idle. A new
	// connection is busy until it is known whether it has brought a request: nobody is
	// closed unheard because the next one waits already.
	idleSince atomic.Int64
	// retired says that the connection ends with the next answers, or after lastWait.
	retired atomic.Bool

	freed bool // guarded by Server.mu: the slot is somebody else's
}

// buffers are what a connection is served with, and the next one after it.
type buffers struct {
	in *netstring.Reader
	// text is that of the answer to the last request, and out holds answers that
	// are not written yet.
	text, out []byte
}

// Values of conn.idleSince that are no times.
const (
	busy       = 0
	closedIdle = -1
)

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{srv: s, nc: nc, wire: newWire(s, nc), askedBefore: -hurry}
}

// now is the time since Server.start.
func (s *Server) now() time.Duration { return time.Since(s.start) }

// idleSince is a time since Server.start as a value of conn.idleSince; it is
// never busy.
func idleSince(now time.Duration) int64 { return int64(now) + 1 }

// serve answers the requests of the connection until it ends.
func (c *conn) serve() {
	defer c.srv.remove(c)
	defer c.nc.Close()
	err := c.wire.each(c.arrived)
	for err == nil && c.lookAgain() {
		err = c.wire.each(c.arrived)
	}
	c.logEnd(err)
}

// arrived answers what has arrived. It returns an error if the connection ends.
func (c *conn) arrived() error {
	for look := true; look; {
		frame, err := c.in.ReadFrame()
		switch {
		case errors.Is(err, errNothing):
			return c.restIfNew()
		case err != nil:
			return err
		case !c.wake():
			return net.ErrClosed
		}
		if err := c.answerAll(frame); err != nil {
			return err
		}
		if look, err = c.rest(); err != nil {
			return err
		}
	}
	return nil
}

// answerAll answers a request and those that came with it, and writes the answers.
func (c *conn) answerAll(frame []byte) (err error) {
	for {
		if err := c.answer(frame); err != nil {
			return err
		}
		if !c.in.Buffered() {
			return c.flush()
		}
		if frame, err = c.in.ReadFrame(); err != nil {
			return errors.Join(err, c.flush())
		}
	}
}

// rest makes the connection idle from now on, and reports whether to look what has
// arrived since. It returns an error if the connection ends.
func (c *conn) rest() (look bool, err error) {
	if c.retired.Load() {
		return false, net.ErrClosed
	}
	c.trim()
	asked := c.asked.Sub(c.srv.start)
	hurried := c.wire.drained() && asked-c.askedBefore < hurry
	c.askedBefore = asked
	if hurried && c.lookAt-asked < lookAfter {
		c.lookAt = asked + 2*lookAfter // so that it need not be set for every request
		if err := c.nc.SetReadDeadline(c.srv.start.Add(c.lookAt)); err != nil {
			return false, err
		}
	}
	return !hurried, c.becomeIdle(asked)
}

// restIfNew makes a connection idle that has come without a request.
func (c *conn) restIfNew() error {
	if c.idleSince.Load() != busy {
		return nil
	}
	return c.becomeIdle(c.srv.now())
}

func (c *conn) becomeIdle(since time.Duration) error {
	c.idleSince.Store(idleSince(since))
	c.srv.signalRoom()
	return c.heedRetire()
}

// lookAgain is for a connection that has brought nothing until its read deadline. If that
// was lookAt, each is to look whether anything is there, such as an end that came along
// with a request. If it was that of retire, the connection ends: it returns false.
func (c *conn) lookAgain() bool {
	if c.retired.Load() {
		return false
	}
	c.lookAt = 0
	return c.nc.SetReadDeadline(time.Time{}) == nil && c.heedRetire() == nil
}

// heedRetire is for a connection that has just become idle, or has just set a deadline:
// retire may have come before, and set none, or one that holds no more.
func (c *conn) heedRetire() error {
	if !c.retired.Load() {
		return nil
	}
	return c.nc.SetReadDeadline(time.Now().Add(lastWait))
}

// trim empties the buffers, and gives back what is large.
func (b *buffers) trim() {
	b.in.Release()
	b.text, b.out = keep(b.text), keep(b.out)
}

// keep returns a buffer that is not needed now, if it may be kept.
func keep(buf []byte) []byte {
	if cap(buf) > keptPending {
		return nil
	}
	return buf[:0]
}

// wake ends the idleness. It returns false if the connection was closed
// before: then the request that has just arrived is not answered.
func (c *conn) wake() bool {
	since := c.idleSince.Load()
	return since != closedIdle && c.idleSince.CompareAndSwap(since, busy)
}

// closeIdle closes the connection if it is still idle since then.
func (c *conn) closeIdle(since int64) bool {
	if !c.idleSince.CompareAndSwap(since, closedIdle) {
		return false
	}
	c.wire.hangUp()
	return true
}

// retire ends the connection after the requests that have been read are answered.
// One that is idle is given a moment: its next request may be on the way, from a
// client that has just come from a connection which was ended like this, and
// comes back once only.
func (c *conn) retire() {
	c.retired.Store(true)
	if c.idleSince.Load() > busy {
		_ = c.heedRetire() // fails if the connection has ended
	}
}

// answer answers one request. The answer is written when no further request is
// there, or with the answers to those.
func (c *conn) answer(frame []byte) error {
	c.asked = time.Now()
	lent := c.lend()
	status := c.reply(frame)
	if lent {
		if err := c.takeBack(); err != nil {
			return err
		}
	}
	c.out = netstring.AppendTail(c.out, c.text, status.String(), " ")
	if len(c.out) >= maxPending {
		return c.flush()
	}
	return nil
}

// lend has the answers that are due written in a moment, if the next one takes
// longer. Until takeBack, they belong to the timer.
func (c *conn) lend() bool {
	if len(c.out) == 0 {
		return false
	}
	if c.timer == nil {
		c.late = make(chan error, 1)
		c.timer = time.AfterFunc(lateFlush, func() { c.late <- c.flush() })
	} else {
		c.timer.Reset(lateFlush)
	}
	return true
}

// takeBack ends what lend began, and waits for it if it is under way.
func (c *conn) takeBack() error {
	if c.timer.Stop() {
		return nil
	}
	return <-c.late
}

// flush writes the answers that are due. It sets a deadline only if it has to wait
// for the client to read.
func (c *conn) flush() error {
	out := c.out[c.wire.tryWrite(c.out):]
	c.out = c.out[:0]
	if len(out) == 0 {
		return nil
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.srv.WriteTimeout)); err != nil {
		return err
	}
	_, err := c.nc.Write(out)
	return err
}

// reply finds the answer to one request, whatever happens on the way: the status
// that it returns, and c.text.
func (c *conn) reply(frame []byte) (status Status) {
	req := c.request(frame)
	c.text = c.text[:0]
	if len(req.Key) > MaxKey {
		return NotFound
	}
	defer func() {
		if v := recover(); v != nil {
			c.srv.Log.Error("a request failed in a way that it must not; it was answered with TEMP",
				zap.String("map", cut(req.Map)), zap.String("key", cut(req.Key)), zap.Any("panic", v), zap.Stack("stack"))
			status, c.text = Temp, append(c.text[:0], "internal error; see the log of tlspolicyd"...)
		}
	}()
	status, c.text = c.srv.Handler.ServeSocketmap(c.srv.ctx, req, c.text)
	if size := len(status.String()) + len(" ") + len(c.text); size > MaxReply {
		c.srv.Log.Error("an answer is too long; TEMP was sent instead",
			zap.String("map", cut(req.Map)), zap.String("key", cut(req.Key)), zap.Int("size", size))
		status, c.text = Temp, append(c.text[:0], "the answer is too long"...)
	}
	return status
}

// request splits a frame at its first blank. Without one there is no key,
// which no map has.
func (c *conn) request(frame []byte) Request {
	name, key, _ := bytes.Cut(frame, []byte{' '})
	if string(name) != c.mapName {
		c.mapName = string(name)
	}
	return Request{Map: c.mapName, Key: string(key), Asked: c.asked}
}

// maxLogged is how many bytes of a map or key are logged.
const maxLogged = 300

func cut(s string) string { return s[:min(len(s), maxLogged)] }

// logEnd says why the connection ended, unless that is what connections do.
func (c *conn) logEnd(err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, netstring.ErrSyntax), errors.Is(err, netstring.ErrTooLong):
		c.srv.Log.Debug("connection closed: what it sent is no request", zap.Stringer("peer", c.nc.RemoteAddr()), zap.Error(err))
	default:
		c.srv.Log.Debug("connection lost", zap.Stringer("peer", c.nc.RemoteAddr()), zap.Error(err))
	}
}
