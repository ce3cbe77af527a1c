package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// httpsPort is the port of policy hosts, and no other one is
// (RFC 8461, section 3.3).
const httpsPort = 443

// stagger is the time from the start of one attempt to connect to the next
// (RFC 8305, section 5).
const stagger = 250 * time.Millisecond

// attempt is the outcome of connecting to one address.
type attempt struct {
	conn *slotConn
	err  error
}

// race connects to addrs, one after the other at an interval of stagger, or as
// soon as one has failed, and returns the first connection that stands. The
// others are closed. What is dialled is an address, never a name: nobody can
// put another one in its place after it was checked. If there was no place for
// one of the connections, the error wraps errBusy.
func (t *transfer) race(ctx context.Context, addrs []netip.Addr) (*slotConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan attempt, len(addrs))
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		close(results)
		for late := range results {
			if late.conn != nil {
				_ = late.conn.Close() // it lost
			}
		}
	}()
	var failed failures
	timer := time.NewTimer(0)
	defer timer.Stop()
	for started := 0; failed.count < len(addrs); {
		var next <-chan time.Time
		if started < len(addrs) {
			next = timer.C
		}
		select {
		case <-next:
			addr := addrs[started]
			started++
			wg.Go(func() { results <- t.attempt(ctx, addr) })
			timer.Reset(stagger)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			failed.add(r.err)
			timer.Reset(0)
		}
	}
	return nil, failed.err()
}

// failures are the attempts that failed.
type failures struct {
	count       int
	first, busy error
}

func (f *failures) add(err error) {
	f.count++
	if f.first == nil {
		f.first = err
	}
	if f.busy == nil && errors.Is(err, errBusy) {
		f.busy = err
	}
}

// err returns the first of them. One that was not made goes before: that
// address may be a good one.
func (f *failures) err() error {
	switch {
	case f.busy != nil:
		return f.busy
	case f.count > 1:
		return fmt.Errorf("%w (and %d more addresses)", f.first, f.count-1)
	default:
		return f.first
	}
}

// attempt connects to one address.
func (t *transfer) attempt(ctx context.Context, addr netip.Addr) attempt {
	target := netip.AddrPortFrom(addr, httpsPort).String()
	leave, err := t.gate.enter(ctx, addr, t.patient)
	if err != nil {
		return attempt{err: fmt.Errorf("connecting to %s: %w", target, err)}
	}
	started := time.Now()
	conn, err := t.dial(ctx, "tcp", target)
	traceOf(ctx).connected(target, started, err)
	if err != nil {
		leave()
		return attempt{err: &connectError{target: target, err: err}}
	}
	return attempt{conn: &slotConn{Conn: conn, addr: addr, release: sync.OnceFunc(leave)}}
}

// connectError is a connection that could not be made.
type connectError struct {
	target string
	err    error
}

func (e *connectError) Error() string {
	return fmt.Sprintf("connecting to %s: %s", e.target, plain(e.err))
}

func (e *connectError) Unwrap() error { return e.err }

// slotConn gives its place back when it is closed.
type slotConn struct {
	net.Conn
	addr    netip.Addr
	release func()
}

// Close closes the connection; it may be called more than once.
func (c *slotConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
