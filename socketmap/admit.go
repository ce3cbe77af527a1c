package socketmap

import (
	"errors"
	"net"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// maxDefaultConns is the most that MaxConns is by itself.
const maxDefaultConns = 10_000

// defaultMaxConns is half of the descriptors: the rest of the program needs
// some for its questions to the network.
func defaultMaxConns() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxDefaultConns
	}
	return int(max(1, min(limit.Cur/2, maxDefaultConns)))
}

// admit gives c a slot, and waits for one if need be. It returns false if the
// server shuts down.
func (s *Server) admit(c *conn) bool {
	if s.add(c) {
		return true
	}
	select {
	case s.slots.turn <- struct{}{}:
	case <-s.closing:
		return false
	}
	defer func() { <-s.slots.turn }()
	// From now on whoever ends or becomes idle says so: no chance is missed
	// between a look and the wait after it.
	s.slots.waiting.Store(true)
	defer s.slots.waiting.Store(false)
	for {
		if s.add(c) || s.evict() && s.add(c) {
			return true
		}
		select {
		case <-s.slots.room:
		case <-s.closing:
			return false
		}
	}
}

// add gives c a slot if there is one.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	if s.closed || s.slots.used >= s.slots.max {
		s.mu.Unlock()
		return false
	}
	s.slots.used++
	s.conns[c] = struct{}{}
	s.crowded.Store(len(s.conns) > s.crowd)
	s.mu.Unlock()
	s.Metrics.ConnectionOpened()
	return true
}

// remove is the end of c.
func (s *Server) remove(c *conn) {
	s.Metrics.ConnectionClosed()
	s.mu.Lock()
	delete(s.conns, c)
	s.crowded.Store(len(s.conns) > s.crowd)
	s.free(c)
	s.checkDrained()
	s.mu.Unlock()
	s.signalRoom()
}

// free takes c's slot. The lock is held.
func (s *Server) free(c *conn) {
	if !c.freed {
		c.freed = true
		s.slots.used--
	}
}

// signalRoom wakes who waits for room.
func (s *Server) signalRoom() {
	if !s.slots.waiting.Load() {
		return
	}
	select {
	case s.slots.room <- struct{}{}:
	default:
	}
}

// evict closes the connection that has been idle longest, and frees its slot.
// It returns false if none is idle.
func (s *Server) evict() bool {
	for {
		c, since := s.longestIdle()
		if c == nil {
			return false
		}
		if !c.closeIdle(since) {
			continue // it got a request in this very moment
		}
		s.mu.Lock()
		s.free(c)
		s.mu.Unlock()
		return true
	}
}

// longestIdle finds the connection that has been idle longest, and since when.
func (s *Server) longestIdle() (oldest *conn, since int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if t := c.idleSince.Load(); t > busy && (oldest == nil || t < since) {
			oldest, since = c, t
		}
	}
	return oldest, since
}

// slackShare is the part of a time-out by which it may be longer.
const slackShare = 32

// closeOverdue closes what is idle for longer than it may be, until the server shuts
// down.
func (s *Server) closeOverdue() {
	tick := time.NewTicker(max(s.IdleTimeout/slackShare, 1))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.closeIdleSince(s.now() - s.IdleTimeout)
		case <-s.closing:
			return
		}
	}
}

func (s *Server) closeIdleSince(since time.Duration) {
	s.mu.Lock()
	conns := s.connections()
	s.mu.Unlock()
	for _, c := range conns {
		if t := c.idleSince.Load(); t > busy && t <= idleSince(since) {
			c.closeIdle(t)
		}
	}
}

// Pauses after an accept that failed.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// logPause is the least time between two lines in the log about it.
	logPause = time.Minute
)

// acceptPause is how a listener goes on after errors.
type acceptPause struct {
	server *Server
	addr   net.Addr
	next   time.Duration
	logged time.Time
	// hidden counts the errors since logged.
	hidden int
}

// reset is called after a success.
func (p *acceptPause) reset() { p.next = 0 }

// wait waits until it is time to try again. It returns false if the server
// shuts down.
func (p *acceptPause) wait(err error) bool {
	p.log(err)
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		p.server.evict() // soon gives a descriptor back
	}
	p.next = min(max(2*p.next, firstPause), lastPause)
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.server.closing:
		return false
	}
}

func (p *acceptPause) log(err error) {
	now := time.Now()
	if !p.logged.IsZero() && now.Sub(p.logged) < logPause {
		p.hidden++
		return
	}
	p.server.Log.Error("cannot accept connections; those that are open are served, and it is tried again",
		zap.Stringer("listener", p.addr), zap.Error(err), zap.Int("errors_not_logged", p.hidden))
	p.logged, p.hidden = now, 0
}
