//go:build e2e

package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// maxMessage is the size of the largest DNS message over UDP.
const maxMessage = 65535

// TypeTLSA is the type of TLSA records (RFC 6698, section 7.1).
const TypeTLSA = dnsmessage.Type(52)

// Query asks a server one question over UDP, with AD set, as a stub does that
// trusts the server.
func Query(ctx context.Context, server, name string, qtype dnsmessage.Type) (dnsmessage.Message, error) {
	var answer dnsmessage.Message
	qname, err := dnsmessage.NewName(name)
	if err != nil {
		return answer, fmt.Errorf("asking for %q: %w", name, err)
	}
	question := dnsmessage.Message{
		Header: dnsmessage.Header{ID: uint16(rand.Uint32()), RecursionDesired: true, AuthenticData: true},
		Questions: []dnsmessage.Question{
			{Name: qname, Type: qtype, Class: dnsmessage.ClassINET},
		},
	}
	packet, err := question.Pack()
	if err != nil {
		return answer, fmt.Errorf("asking for %q: %w", name, err)
	}
	packet, err = exchange(ctx, server, packet)
	if err != nil {
		return answer, fmt.Errorf("asking %s for %q: %w", server, name, err)
	}
	if err := answer.Unpack(packet); err != nil {
		return answer, fmt.Errorf("the answer of %s about %q: %w", server, name, err)
	}
	return answer, nil
}

// exchange sends a packet and waits for one from the same server.
func exchange(ctx context.Context, server string, packet []byte) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline := time.Now().Add(5 * time.Second)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
