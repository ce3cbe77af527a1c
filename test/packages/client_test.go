//go:build e2e

package packages_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"testing"

	"tlspolicyd/socketmap"
)

// client asks as Postfix does: over one connection, and once more over a new one
// if the server has closed it.
type client struct {
	addr   string
	conn   *socketmap.Client
	opened int
}

// ask asks the map policy for a key.
func (c *client) ask(ctx context.Context, key string) (string, error) {
	for retry := false; ; retry = true {
		if c.conn == nil {
			conn, err := socketmap.Dial(ctx, c.addr)
			if err != nil {
				return "", err
			}
			c.conn = conn
			c.opened++
		}
		reply, err := c.conn.Lookup(ctx, "policy", key)
		if err == nil {
			return reply.String(), nil
		}
		c.conn = nil // it is closed after an error
		if retry || !hungUp(err) {
			return "", err
		}
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

// hungUp reports whether the other side has closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// load asks for a key again and again, until ctx ends, and wants the same reply
// every time.
type load struct {
	addr, key, want string
	asked, opened   atomic.Int64
}

func (l *load) run(ctx context.Context, t *testing.T) {
	c := &client{addr: l.addr}
	defer c.close()
	for ctx.Err() == nil {
		got, err := c.ask(t.Context(), l.key)
		if err == nil && got != l.want {
			err = fmt.Errorf("the reply is %q", got)
		}
		if err != nil {
			t.Errorf("lookup %d over %s: %v", l.asked.Load(), l.addr, err)
			return
		}
		l.asked.Add(1)
	}
	l.opened.Add(int64(c.opened))
}
