package dnstest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"tlspolicyd/resolver/dnsclient"
)

// Resolver answers questions from its zones without a socket. It is a
// [dnsclient.Client] whose server is in memory, and whose AD bit counts:
// everything is as it would be with a [Server], time-outs too. So what waits
// for it may be in a bubble of testing/synctest, if the Resolver was first
// used in that bubble. The zero value is ready for use.
type Resolver struct {
	Zones
	// Timeout and Attempts are those of [dnsclient.Options]. Outside of a
	// bubble a dropped query takes that time.
	Timeout  time.Duration
	Attempts int
	// Second is another server, far away, which is asked when the first fails
	// and whose AD bit does not count; nil means that there is none.
	Second *Zones
	// Log and Metrics are those of [dnsclient.Options].
	Log     *zap.Logger
	Metrics dnsclient.Metrics

	once   sync.Once
	client *dnsclient.Client
}

// Query is that of [dnsclient.Client].
func (r *Resolver) Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error) {
	return r.Client().Query(ctx, name, qtype)
}

// Validating is that of [dnsclient.Client].
func (r *Resolver) Validating(ctx context.Context) bool {
	return r.Client().Validating(ctx)
}

// Client returns the client that asks for the Resolver. From then on what the
// exported fields say is settled.
func (r *Resolver) Client() *dnsclient.Client {
	r.once.Do(func() {
		servers := []string{firstAddr}
		if r.Second != nil {
			servers = append(servers, secondAddr)
		}
		client, err := dnsclient.New(dnsclient.Options{
			Servers: servers, Timeout: r.Timeout, Attempts: r.Attempts, Dial: r.dial, Log: r.Log, Metrics: r.Metrics,
		})
		if err != nil {
			panic(fmt.Sprintf("dnstest: %v", err))
		}
		r.client = client
	})
	return r.client
}

// The addresses of the servers in memory.
const (
	firstAddr  = "127.0.0.1:53"
	secondAddr = "192.0.2.53:53"
)

// dial connects to a server that lives as long as the connection.
func (r *Resolver) dial(_ context.Context, network, address string) (net.Conn, error) {
	zones := &r.Zones
	if address == secondAddr {
		zones = r.Second
	}
	ours, theirs := net.Pipe()
	c := &memoryConn{Conn: ours, closing: make(chan struct{}), peer: theirs}
	c.serving.Go(func() { zones.serve(c, network) })
	return c, nil
}

// memoryConn is the client's end of a connection.
type memoryConn struct {
	net.Conn
	peer    net.Conn
	serving sync.WaitGroup
	once    sync.Once
	closing chan struct{}
}

// Close closes the connection and waits for the server behind it.
func (c *memoryConn) Close() error {
	c.once.Do(func() { close(c.closing) })
	err := c.Conn.Close()
	c.serving.Wait()
	return err
}

// serve answers queries until the client hangs up.
func (z *Zones) serve(c *memoryConn, network string) {
	defer c.peer.Close() // A pipe cannot fail to close.
	via, read := overUDP, readDatagram
	if network == "tcp" {
		via, read = overTCP, readFrame
	}
	for {
		q, err := read(c.peer)
		if err != nil {
			return
		}
		answer, err := z.reply(q, via)
		if err != nil || !wait(answer.delay, c.closing) {
			return
		}
		for _, m := range answer.messages {
			if via == overTCP {
				m = append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
			}
			if _, err := c.peer.Write(m); err != nil {
				return
			}
		}
	}
}

// readDatagram reads a query: over a pipe, what was written at once.
func readDatagram(conn net.Conn) (*dns.Msg, error) {
	buf := make([]byte, dns.MaxMsgSize)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(buf[:n])
}

// readFrame reads a query behind its length.
func readFrame(conn net.Conn) (*dns.Msg, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	q := new(dns.Msg)
	return q, q.Unpack(buf)
}
