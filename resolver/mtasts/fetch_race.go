package mtasts

import (
	"context"
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
	conn net.Conn
	err  error
}

// race connects to addrs, one after the other at an interval of stagger, or as
// soon as one has failed, and returns the first connection that stands. The
// others are closed. What is dialled is an address, never a name: nobody can
// put another one in its place after it was checked.
func (f *fetcher) race(ctx context.Context, addrs []netip.Addr) (net.Conn, error) {
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
	var firstErr error
	timer := time.NewTimer(0)
	defer timer.Stop()
	for started, failed := 0, 0; failed < len(addrs); {
		var next <-chan time.Time
		if started < len(addrs) {
			next = timer.C
		}
		select {
		case <-next:
			addr := addrs[started]
			started++
			wg.Go(func() { results <- f.attempt(ctx, addr) })
			timer.Reset(stagger)
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			failed++
			if firstErr == nil {
				firstErr = r.err
			}
			timer.Reset(0)
		}
	}
	if len(addrs) > 1 {
		return nil, fmt.Errorf("%w (and %d more addresses)", firstErr, len(addrs)-1)
	}
	return nil, firstErr
}

// attempt connects to one address.
func (f *fetcher) attempt(ctx context.Context, addr netip.Addr) attempt {
	target := netip.AddrPortFrom(addr, httpsPort).String()
	if err := f.slots.acquire(ctx, addr); err != nil {
		return attempt{err: fmt.Errorf("connecting to %s: %w: %w", target, errBusy, err)}
	}
	started := time.Now()
	conn, err := f.dial(ctx, "tcp", target)
	traceOf(ctx).connected(target, started, err)
	if err != nil {
		f.slots.release(addr)
		return attempt{err: &connectError{target: target, err: err}}
	}
	return attempt{conn: &slotConn{Conn: conn, release: sync.OnceFunc(func() { f.slots.release(addr) })}}
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

// slotConn gives its slot back when it is closed.
type slotConn struct {
	net.Conn
	release func()
}

// Close closes the connection; it may be called more than once.
func (c *slotConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
