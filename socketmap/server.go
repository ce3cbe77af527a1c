package socketmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// ErrServerClosed is what [Server.Serve] returns after [Server.Shutdown] or
// [Server.Close].
var ErrServerClosed = errors.New("socketmap server is closed")

// Defaults of the fields of [Server].
const (
	// defaultIdle is far above the 10 s after which Postfix closes a
	// connection (ipc_idle of its client), so that it is always the one to
	// close first.
	defaultIdle  = 5 * time.Minute
	defaultWrite = 30 * time.Second
)

// crowdPerCPU is how many connections for each CPU are no crowd.
const crowdPerCPU = 8

// Metrics counts connections.
type Metrics interface {
	ConnectionOpened()
	ConnectionClosed()
}

// Server answers socketmap requests. Its fields are not changed once it
// serves.
type Server struct {
	// Handler answers. It must be set.
	Handler Handler
	// Log is the log; nil means none.
	Log *zap.Logger
	// Metrics counts; nil means that nobody does.
	Metrics Metrics
	// IdleTimeout is how long a connection may take from one request to the
	// end of the next, or up to 3 % more; zero means 5 minutes.
	IdleTimeout time.Duration
	// WriteTimeout is how long a client may take to read a reply; zero means
	// 30 seconds.
	WriteTimeout time.Duration
	// MaxConns is how many connections may be open at a time. When there are
	// as many, the one that has been idle longest makes room for a new one; if
	// none is idle, new ones wait. Zero means half of the descriptors that the
	// process may have, but no more than 10,000.
	MaxConns int

	once sync.Once
	// ctx is the context of all requests; it ends when the server stops
	// waiting for their answers.
	ctx    context.Context
	cancel context.CancelFunc
	// closing is closed when the server begins to shut down.
	closing chan struct{}
	// start is what idle times are counted from.
	start time.Time
	slots slots
	// crowded is set while there are more connections than crowd.
	crowded atomic.Bool
	crowd   int
	// workers are the goroutines that serve connections. Those that have none
	// hold a place of resting, and are given one.
	workers sync.WaitGroup
	resting chan struct{}
	given   chan *conn

	mu        sync.Mutex // guards what follows
	closed    bool
	sweeping  bool // closeOverdue has begun
	listeners map[*net.Listener]struct{}
	conns     map[*conn]struct{}
	drained   chan struct{} // closed when closed is set and conns is empty
}

// slots is how connections wait for room. A connection has a slot from when it
// is served until it ends or is closed to make room.
type slots struct {
	max  int
	used int // guarded by Server.mu
	// turn is held by the one listener that waits for a slot.
	turn chan struct{}
	// waiting is set while somebody waits for room, and room is signalled
	// then whenever a connection ends or becomes idle.
	waiting atomic.Bool
	room    chan struct{}
}

// setup gives zero fields their meaning.
func (s *Server) setup() {
	s.once.Do(func() {
		if s.Log == nil {
			s.Log = zap.NewNop()
		}
		if s.Metrics == nil {
			s.Metrics = noMetrics{}
		}
		if s.IdleTimeout == 0 {
			s.IdleTimeout = defaultIdle
		}
		if s.WriteTimeout == 0 {
			s.WriteTimeout = defaultWrite
		}
		if s.MaxConns == 0 {
			s.MaxConns = defaultMaxConns()
		}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		s.closing = make(chan struct{})
		s.start = time.Now()
		s.slots = slots{max: s.MaxConns, turn: make(chan struct{}, 1), room: make(chan struct{}, 1)}
		s.crowd = crowdPerCPU * runtime.GOMAXPROCS(0)
		s.resting, s.given = make(chan struct{}, maxResting), make(chan *conn)
		s.listeners = make(map[*net.Listener]struct{})
		s.conns = make(map[*conn]struct{})
		s.drained = make(chan struct{})
	})
}

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) ConnectionOpened() {}
func (noMetrics) ConnectionClosed() {}

// Serve accepts connections from l and answers their requests until the server
// is shut down, or l is closed by somebody else. It closes l, and always
// returns an error: [ErrServerClosed] in the first case. It may be called for
// several listeners at the same time.
//
// No other error of l ends it: it tries again after 5 ms, then twice as long
// up to 1 s, until it succeeds.
func (s *Server) Serve(l net.Listener) error {
	s.setup()
	defer l.Close()
	if !s.track(&l) {
		return ErrServerClosed
	}
	defer s.untrack(&l)
	pause := acceptPause{server: s, addr: l.Addr()}
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause.reset()
		case s.isClosing():
			return ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting connections on %s: %w", l.Addr(), err)
		case !pause.wait(err):
			return ErrServerClosed
		default:
			continue
		}
		c := newConn(s, nc)
		if !s.admit(c) {
			nc.Close()
			return ErrServerClosed
		}
		s.serveConn(c) // Shutdown and Close wait for it
	}
}

// Shutdown ends the server: it closes the listeners, lets the requests that have been
// read be answered, and closes the connections. An idle one is given 250 ms for a request
// that is on its way. It returns when all is done. When ctx ends earlier, it ends all
// connections and requests as [Server.Close] does, does not wait for them, and returns
// the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setup()
	for _, c := range s.stop() {
		c.retire()
	}
	select {
	case <-s.drained:
		s.cancel()
		s.workers.Wait()
		return nil
	case <-ctx.Done():
		s.abort()
		return fmt.Errorf("waiting for the last answers: %w", ctx.Err())
	}
}

// Close ends the server at once: it closes the listeners and all connections,
// and ends the context of the requests in progress. It waits until these have
// returned.
func (s *Server) Close() error {
	s.setup()
	s.stop()
	s.abort()
	<-s.drained
	s.workers.Wait()
	return nil
}

// stop closes the listeners, lets no new connection in, and returns those that
// there are.
func (s *Server) stop() []*conn {
	s.mu.Lock()
	var listeners []net.Listener
	if !s.closed {
		s.closed = true
		close(s.closing)
		s.checkDrained()
	}
	for l := range s.listeners {
		listeners = append(listeners, *l)
	}
	conns := s.connections()
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	return conns
}

// abort ends all connections, and then all requests: what a request comes to that
// was cut short is no answer.
func (s *Server) abort() {
	s.mu.Lock()
	conns := s.connections()
	s.mu.Unlock()
	for _, c := range conns {
		c.wire.hangUp()
	}
	s.cancel()
}

// connections lists the connections. The lock is held.
func (s *Server) connections() []*conn {
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// checkDrained tells those who wait that the last connection has ended. The
// lock is held.
func (s *Server) checkDrained() {
	if !s.closed || len(s.conns) > 0 {
		return
	}
	select {
	case <-s.drained:
	default:
		close(s.drained)
	}
}

func (s *Server) track(l *net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	if !s.sweeping {
		s.sweeping = true
		s.workers.Go(s.closeOverdue)
	}
	return true
}

func (s *Server) untrack(l *net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}
