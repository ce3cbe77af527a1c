package socketmap

import "tlspolicyd/socketmap/netstring"

// maxResting is how many workers wait for the next connection.
const maxResting = 64

// worker serves c, and then what it is given: one connection after the other. A
// new goroutine has to grow its stack to the size that an answer needs, which
// costs as much as the answer; who comes with a new connection for every question
// finds one that has done so.
func (s *Server) worker(c *conn) {
	defer s.workers.Done()
	b := buffers{in: netstring.NewReader(nil, MaxRequest)}
	for c != nil {
		b.in.Reset(c.wire)
		c.buffers = b
		c.serve()
		b = c.buffers
		b.in.Reset(nil)
		b.trim()
		c = s.nextConn()
	}
}

// serveConn has c served by a worker that rests, or else by a new one.
func (s *Server) serveConn(c *conn) {
	select {
	case s.given <- c:
	default:
		s.workers.Add(1)
		go s.worker(c)
	}
}

// nextConn waits for a connection. It returns nil if the server shuts down, or
// enough others wait.
func (s *Server) nextConn() *conn {
	select {
	case s.resting <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-s.resting }()
	select {
	case c := <-s.given:
		return c
	case <-s.closing:
		return nil
	}
}
