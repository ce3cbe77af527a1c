//go:build e2e

package lab

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Fault is what a [Tap] does with a question.
type Fault int

// The faults.
const (
	// Pass: the question is asked, the answer passed on.
	Pass Fault = iota
	// Drop: no answer.
	Drop
	// ServFail: SERVFAIL, without asking.
	ServFail
	// NoAD: the answer is passed on as if nobody had validated it.
	NoAD
)

// Where the AD bit is in a message (RFC 4035, section 3.2.3).
const (
	adByte = 3
	adBit  = 0x20
)

// Question is one that came through a [Tap].
type Question struct {
	// Name is in lower case, without the final dot.
	Name string
	Type dnsmessage.Type
}

// Tap is a forwarder to another DNS server of the lab, on loopback as that
// itself, which counts questions and may leave them without an answer. It
// speaks UDP only; nothing in the lab needs more.
type Tap struct {
	// Addr is host:port.
	Addr string

	server string // that is asked
	conn   net.PacketConn
	open   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	asked []Question
	fault func(Question) Fault
}

// StartTap starts a tap on addr, host:port, before the resolver.
func (l *Lab) StartTap(t testing.TB, addr string) *Tap {
	t.Helper()
	tap, err := startTap(t, addr, Resolver)
	if err != nil {
		t.Fatalf("starting a tap: %v", err)
	}
	return tap
}

// startTap starts a tap before any server.
func startTap(t testing.TB, addr, server string) (*Tap, error) {
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	tap := &Tap{Addr: addr, server: server, conn: conn, fault: func(Question) Fault { return Pass }}
	ctx, cancel := context.WithCancel(context.Background())
	tap.open.Go(func() { tap.serve(ctx) })
	t.Cleanup(func() {
		cancel()
		conn.Close()
		tap.open.Wait()
	})
	return tap, nil
}

// SetFault lets fault decide about every question from now on.
func (tap *Tap) SetFault(fault func(Question) Fault) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	tap.fault = fault
}

// Asked returns the questions about domain and the names below it.
func (tap *Tap) Asked(domain string) []Question {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	var about []Question
	for _, q := range tap.asked {
		if q.Name == domain || strings.HasSuffix(q.Name, "."+domain) {
			about = append(about, q)
		}
	}
	return about
}

func (tap *Tap) serve(ctx context.Context) {
	buf := make([]byte, maxMessage)
	for {
		n, from, err := tap.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		packet := append([]byte(nil), buf[:n]...)
		tap.open.Go(func() { tap.answer(ctx, packet, from) })
	}
}

// answer passes one question on. One that does not parse, and one to which
// there is no answer, is dropped, as a network would.
func (tap *Tap) answer(ctx context.Context, packet []byte, from net.Addr) {
	var parser dnsmessage.Parser
	header, err := parser.Start(packet)
	if err != nil {
		return
	}
	question, err := parser.Question()
	if err != nil {
		return
	}
	fault := tap.note(question)
	switch fault {
	case Drop:
		return
	case ServFail:
		packet, err = failure(header, question)
	default:
		packet, err = exchange(ctx, tap.server, packet)
	}
	if err == nil && fault == NoAD {
		packet[adByte] &^= adBit
	}
	if err == nil {
		_, _ = tap.conn.WriteTo(packet, from)
	}
}

func (tap *Tap) note(question dnsmessage.Question) Fault {
	q := Question{
		Name: strings.ToLower(strings.TrimSuffix(question.Name.String(), ".")),
		Type: question.Type,
	}
	tap.mu.Lock()
	tap.asked = append(tap.asked, q)
	fault := tap.fault
	tap.mu.Unlock()
	return fault(q)
}

func failure(header dnsmessage.Header, question dnsmessage.Question) ([]byte, error) {
	answer := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, RecursionDesired: true,
			RecursionAvailable: true, RCode: dnsmessage.RCodeServerFailure,
		},
		Questions: []dnsmessage.Question{question},
	}
	return answer.Pack()
}
