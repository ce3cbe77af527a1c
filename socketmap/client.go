package socketmap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"tlspolicyd/socketmap/netstring"
)

// Why a client has no answer.
var (
	// ErrRequest: the server would not read such a request.
	ErrRequest = errors.New("request is too long, or its map has a blank")
	// ErrReply: what came back is no reply.
	ErrReply = errors.New("not a socketmap reply")
)

// clientTimeout is how long a client waits for a reply at most, as Postfix
// does.
const clientTimeout = 100 * time.Second

// Client asks a socketmap server, one question at a time. It is not safe for
// concurrent use.
type Client struct {
	nc  net.Conn
	in  *netstring.Reader
	out []byte
	err error // why the connection is of no use any more
}

// Dial connects to the server at addr, "host:port" or "unix:/path".
func Dial(ctx context.Context, addr string) (*Client, error) {
	network, address := splitAddr(addr)
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %q: %w", addr, err)
	}
	return NewClient(nc), nil
}

// NewClient returns a client that asks over nc, and closes it when it is
// closed.
func NewClient(nc net.Conn) *Client {
	return &Client{nc: nc, in: netstring.NewReader(nc, MaxReply)}
}

// Lookup asks for key in the map with the given name. It waits until ctx ends,
// but no longer than 100 s. After any error but ErrRequest the client is of no
// use any more: all further lookups return the same error, so that no reply is
// ever taken for that to another question.
func (c *Client) Lookup(ctx context.Context, mapName, key string) (Reply, error) {
	if c.err != nil {
		return Reply{}, c.err
	}
	if len(mapName)+1+len(key) > MaxRequest || strings.Contains(mapName, " ") {
		return Reply{}, fmt.Errorf("%w: map %.40q, key of %d bytes", ErrRequest, mapName, len(key))
	}
	reply, err := c.lookup(ctx, mapName, key)
	if err != nil {
		c.err = fmt.Errorf("asking for %.300q: %w", key, err)
		c.nc.Close()
		return Reply{}, c.err
	}
	return reply, nil
}

// Close closes the connection.
func (c *Client) Close() error {
	if c.err != nil {
		return nil // it was closed then
	}
	c.err = net.ErrClosed
	return c.nc.Close()
}

func (c *Client) lookup(ctx context.Context, mapName, key string) (Reply, error) {
	if err := c.nc.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return Reply{}, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		// This ends what is under way. It fails only if that has ended.
		_ = c.nc.SetDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	reply, err := c.exchange(mapName, key)
	if !stop() {
		<-interrupted
		return Reply{}, context.Cause(ctx)
	}
	return reply, err
}

func (c *Client) exchange(mapName, key string) (Reply, error) {
	c.out = netstring.Append(c.out[:0], mapName, " ", key)
	if _, err := c.nc.Write(c.out); err != nil {
		return Reply{}, err
	}
	frame, err := c.in.ReadFrame()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // in the middle of an exchange
	}
	if err != nil {
		return Reply{}, err
	}
	if c.in.Pending() {
		return Reply{}, fmt.Errorf("%w: more than one", ErrReply)
	}
	return parseReply(frame)
}

// parseReply reads what Reply.String writes.
func parseReply(frame []byte) (Reply, error) {
	word, text, found := bytes.Cut(frame, []byte{' '})
	if !found {
		return Reply{}, fmt.Errorf("%w: no blank after the status in %.60q", ErrReply, frame)
	}
	for _, s := range []Status{OK, NotFound, Temp, Timeout, Perm} {
		if string(word) == s.String() {
			return Reply{Status: s, Text: string(text)}, nil
		}
	}
	return Reply{}, fmt.Errorf("%w: unknown status %.60q", ErrReply, word)
}
