package dnsclient

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"
)

// maxDatagram is how much of a datagram is read, in bytes: more than a server
// is asked for, since some send more.
const maxDatagram = 4096

// exchange puts one question to one server. What it returns is an answer: a
// message with the rcode NOERROR or NXDOMAIN, from a server that recurses.
func (c *Client) exchange(ctx context.Context, s *server, q dns.Question) (*dns.Msg, error) {
	m, err := c.send(ctx, s, newQuery(q))
	if err == nil && rejectsEDNS(m) {
		m, err = c.send(ctx, s, newPlainQuery(q))
	}
	if err != nil {
		return nil, err
	}
	return m, checkStatus(m)
}

// send sends a query over UDP, and over TCP if the answer does not fit in a
// datagram (RFC 7766, section 5).
func (c *Client) send(ctx context.Context, s *server, q *dns.Msg) (*dns.Msg, error) {
	m, err := c.over(ctx, "udp", s, q, datagram)
	if err != nil || !m.Truncated {
		return m, err
	}
	m, err = c.over(ctx, "tcp", s, q, stream)
	if err == nil && m.Truncated {
		return nil, causef(KindMalformed, "truncated answer over TCP")
	}
	return m, err
}

// over sends a packed query over a connection of its own, which is closed
// when it returns. Whatever waits on the connection ends with ctx.
func (c *Client) over(ctx context.Context, network string, s *server, q *dns.Msg, roundTrip func(net.Conn, *dns.Msg, []byte) (*dns.Msg, error)) (*dns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack the query: %w", err)
	}
	conn, err := c.dial(ctx, network, s.addr.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close() // The answer is there, or is not.
	past := time.Unix(1, 0)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	return roundTrip(conn, q, packed)
}

// datagram sends a query over UDP and waits for the answer to it. What does
// not fit the question may be forged or late, and is no reason to fail.
func datagram(conn net.Conn, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	if _, err := conn.Write(packed); err != nil {
		return nil, fmt.Errorf("send over UDP: %w", err)
	}
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("wait for an answer over UDP: %w", err)
		}
		if !fits(buf[:n], q) {
			continue
		}
		if n == len(buf) || isTruncated(buf[:n]) {
			// What a truncated message holds is not looked at: it may end
			// anywhere.
			return &dns.Msg{MsgHdr: dns.MsgHdr{Truncated: true}}, nil
		}
		return unpack(buf[:n])
	}
}

// stream sends a query over TCP. Nothing but the answer to it can come back.
func stream(conn net.Conn, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	// RFC 7766, section 8: length and message in one segment.
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packed)), uint16(len(packed)))
	if _, err := conn.Write(append(framed, packed...)); err != nil {
		return nil, fmt.Errorf("send over TCP: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, fmt.Errorf("wait for an answer over TCP: %w", err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, fmt.Errorf("read the answer over TCP: %w", err)
	}
	if !fits(buf, q) {
		return nil, causef(KindMalformed, "the answer over TCP is to another question")
	}
	return unpack(buf)
}
