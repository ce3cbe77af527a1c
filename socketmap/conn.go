package socketmap

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
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
	// slackShare is the part of a time-out by which it may be longer.
	slackShare = 32
)

// conn is a connection. All but what is said otherwise belongs to the
// goroutine that serves it.
type conn struct {
	srv *Server
	nc  net.Conn
	in  *netstring.Reader
	// mapName is the map that was asked last: usually the next one too.
	mapName string

	// text is that of the answer to the last request.
	text []byte

	// out holds answers that are not written yet. It is lent to timer, whose
	// function writes them, while a request is answered that may take long;
	// late tells that it has done so.
	out   []byte
	timer *time.Timer
	late  chan error

	// readBy and writeBy are the deadlines that are set, as times since
	// Server.start; readBy is guarded by mu.
	readBy, writeBy time.Duration

	// idleSince is when the connection became idle, as the time since
	// Server.start, busy while a request is answered, and closedIdle if it was
	// closed while idle. It is changed under mu, but for the end of the idleness.
	idleSince atomic.Int64
	mu        sync.Mutex // guards what follows, and the read deadline
	// last says that the connection ends with the requests that have arrived,
	// and rested that it has waited for one.
	last, rested bool

	freed bool // guarded by Server.mu: the slot is somebody else's
}

// Values of conn.idleSince that are no times.
const (
	busy       = 0
	closedIdle = -1
)

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, in: netstring.NewReader(nc, MaxRequest)}
	c.idleSince.Store(idleSince(s.now()))
	return c
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
	for {
		frame, err := c.next()
		if err != nil {
			c.flush()
			c.logEnd(err)
			return
		}
		if err := c.answer(frame); err != nil {
			c.logEnd(err)
			return
		}
	}
}

// next returns the next request. Before it waits for one, it writes the
// answers that are due.
func (c *conn) next() ([]byte, error) {
	if c.in.Buffered() {
		return c.in.ReadFrame()
	}
	now := c.srv.now()
	if err := c.flushAt(now); err != nil {
		return nil, err
	}
	if !c.rest(now) {
		return nil, net.ErrClosed
	}
	frame, err := c.in.ReadFrame()
	if err != nil {
		return nil, err
	}
	if !c.wake() {
		return nil, net.ErrClosed
	}
	return frame, nil
}

// rest makes the connection idle from now on. It returns false if the connection is to
// end. The read deadline is set under the lock, so that a connection that is
// closed is never waited for.
func (c *conn) rest(now time.Duration) bool {
	c.in.Release()
	c.out, c.text = keep(c.out), keep(c.text)
	c.mu.Lock()
	if c.idleSince.Load() == closedIdle || c.last && c.rested {
		c.mu.Unlock()
		return false
	}
	c.rested = true
	limit := c.srv.IdleTimeout
	if c.last {
		now, limit = c.srv.now(), lastWait // to write the answers may have taken long
	}
	err := c.extend(&c.readBy, now, limit, c.nc.SetReadDeadline)
	c.idleSince.Store(idleSince(now))
	c.mu.Unlock()
	c.srv.signalRoom()
	return err == nil
}

// keep returns a buffer that is not needed now, if it may be kept.
func keep(buf []byte) []byte {
	if cap(buf) > keptPending {
		return nil
	}
	return buf[:0]
}

// extend sees to it that a deadline is at least limit away from now, and not
// much more. To set it for every request would cost more than the request: so
// it is set a little further away, and holds for as long as that is far enough.
func (c *conn) extend(by *time.Duration, now, limit time.Duration, set func(time.Time) error) error {
	if *by-now >= limit {
		return nil
	}
	*by = now + limit + limit/slackShare
	return set(c.srv.start.Add(*by))
}

// wake ends the idleness. It returns false if the connection was closed
// before: then the request that has just arrived is not answered.
func (c *conn) wake() bool {
	since := c.idleSince.Load()
	return since != closedIdle && c.idleSince.CompareAndSwap(since, busy)
}

// closeIdle closes the connection if it is idle.
func (c *conn) closeIdle() bool {
	c.mu.Lock()
	since := c.idleSince.Load()
	closed := since > busy && c.idleSince.CompareAndSwap(since, closedIdle)
	c.mu.Unlock()
	if closed {
		c.nc.Close()
	}
	return closed
}

// retire ends the connection after the requests that have arrived are answered.
// One that is idle is given a moment: its next request may be on the way, from a
// client that has just come from a connection which was ended like this, and
// comes back once only.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	if c.idleSince.Load() > busy {
		if err := c.nc.SetReadDeadline(time.Now().Add(lastWait)); err != nil {
			c.nc.Close()
		}
	}
}

// answer answers one request. The answer is written when no further request is
// there, or with the answers to those.
func (c *conn) answer(frame []byte) error {
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

// flush writes the answers that are due.
func (c *conn) flush() error { return c.flushAt(c.srv.now()) }

func (c *conn) flushAt(now time.Duration) error {
	if len(c.out) == 0 {
		return nil
	}
	if err := c.extend(&c.writeBy, now, c.srv.WriteTimeout, c.nc.SetWriteDeadline); err != nil {
		return err
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
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
	return Request{Map: c.mapName, Key: string(key)}
}

// maxLogged is how many bytes of a map or key are logged.
const maxLogged = 300

func cut(s string) string { return s[:min(len(s), maxLogged)] }

// logEnd says why the connection ended, unless that is what connections do.
func (c *conn) logEnd(err error) {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
	case errors.Is(err, netstring.ErrSyntax), errors.Is(err, netstring.ErrTooLong):
		c.srv.Log.Debug("connection closed: what it sent is no request", zap.Stringer("peer", c.nc.RemoteAddr()), zap.Error(err))
	default:
		c.srv.Log.Debug("connection lost", zap.Stringer("peer", c.nc.RemoteAddr()), zap.Error(err))
	}
}
