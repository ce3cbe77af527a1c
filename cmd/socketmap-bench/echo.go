package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
)

// serveEcho answers every netstring with one reply until ctx ends. It prints
// the address that it listens on.
func serveEcho(ctx context.Context, addr, reply string, out io.Writer) error {
	l, err := socketmap.Listen(addr, 0o600)
	if err != nil {
		return err
	}
	if addr := l.Addr(); addr.Network() == "unix" {
		_, err = fmt.Fprintln(out, "unix:"+addr.String())
	} else {
		_, err = fmt.Fprintln(out, addr)
	}
	e := echo{frame: netstring.Append(nil, reply), conns: make(map[net.Conn]struct{})}
	stop := context.AfterFunc(ctx, func() { e.close(l) })
	if err == nil {
		err = e.serve(l)
	}
	if !stop() {
		err = nil // it was told to end
	}
	e.close(l)
	e.serving.Wait()
	return err
}

// echo is a server of one answer.
type echo struct {
	frame   []byte
	serving sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	conns  map[net.Conn]struct{}
}

func (e *echo) serve(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accepting connections: %w", err)
		}
		if !e.add(nc) {
			_ = nc.Close() // it comes too late
			return nil
		}
		e.serving.Go(func() { e.answer(nc) })
	}
}

// answer is all that a request costs here.
func (e *echo) answer(nc net.Conn) {
	defer e.remove(nc)
	in := netstring.NewReader(nc, socketmap.MaxRequest)
	for {
		if _, err := in.ReadFrame(); err != nil {
			return
		}
		if _, err := nc.Write(e.frame); err != nil {
			return
		}
	}
}

func (e *echo) add(nc net.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.conns[nc] = struct{}{}
	return true
}

func (e *echo) remove(nc net.Conn) {
	_ = nc.Close() // the client has left, or is told to
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, nc)
}

// close ends the listener and all connections.
func (e *echo) close(l net.Listener) {
	_ = l.Close() // for the second time, maybe
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for nc := range e.conns {
		_ = nc.Close() // its goroutine says good-bye
	}
}
