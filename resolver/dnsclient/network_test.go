package dnsclient_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/resolver/dnsclient"
)

const (
	first  = "127.0.0.1:53"
	second = "127.0.0.2:53"
	third  = "192.0.2.3:53"
)

// script says what a server sends back for a query: nothing, or one message
// after the other. Over TCP they are framed already.
type script func(network string, q *dns.Msg) [][]byte

// network is a network of servers in memory, by address. An address without
// a script refuses connections.
type network struct {
	mu      sync.Mutex // guards what follows
	servers map[string]script
	log     []string // "address network question", one for each query
	queries []*dns.Msg
}

func (n *network) set(addr string, s script) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.servers == nil {
		n.servers = make(map[string]script)
	}
	n.servers[addr] = s
}

func (n *network) seen() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	log := n.log
	n.log = nil
	return log
}

var errDead = errors.New("connection refused")

func (n *network) dial(_ context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.servers[addr]
	if s == nil {
		n.log = append(n.log, addr+" "+network+" refused")
		return nil, errDead
	}
	ours, theirs := net.Pipe()
	go n.serve(theirs, network, addr, s)
	return ours, nil
}

// serve answers one query, and hangs up over TCP; over UDP nobody hangs up.
func (n *network) serve(conn net.Conn, network, addr string, s script) {
	defer conn.Close()
	buf := make([]byte, 65536)
	size, err := conn.Read(buf)
	if err != nil {
		return
	}
	msg := buf[:size]
	if network == "tcp" {
		msg = msg[2:]
	}
	q := new(dns.Msg)
	if err := q.Unpack(msg); err != nil {
		panic(err)
	}
	n.mu.Lock()
	n.log = append(n.log, fmt.Sprintf("%s %s %s", addr, network, q.Question[0].Name))
	n.queries = append(n.queries, q)
	n.mu.Unlock()
	for _, m := range s(network, q) {
		if _, err := conn.Write(m); err != nil {
			return
		}
	}
	if network == "udp" {
		_, _ = conn.Read(buf) // Until the client hangs up.
	}
}

// answer makes an answer with records; AD is set, as in all of them.
func answer(q *dns.Msg, records ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable, m.AuthenticatedData = true, true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func pack(network string, m *dns.Msg) []byte {
	packed, err := m.Pack()
	if err != nil {
		panic(err)
	}
	if network == "tcp" {
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	}
	return packed
}

// says makes a script of a function that changes a right answer.
func says(change func(m *dns.Msg)) script {
	return func(network string, q *dns.Msg) [][]byte {
		m := answer(q, q.Question[0].Name+" 60 A 192.0.2.1")
		change(m)
		return [][]byte{pack(network, m)}
	}
}

func rcode(rcode int) script {
	return says(func(m *dns.Msg) { m.Answer, m.Rcode = nil, rcode })
}

var (
	right  = says(func(*dns.Msg) {})
	silent = func(string, *dns.Msg) [][]byte { return nil }
)

func newClient(t *testing.T, n *network, o dnsclient.Options) *dnsclient.Client {
	t.Helper()
	if o.Servers == nil {
		o.Servers = []string{first}
	}
	if o.Dial == nil {
		o.Dial = n.dial
	}
	c, err := dnsclient.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// outcome makes one line of an answer or an error.
func outcome(a dnsclient.Answer, err error) string {
	if err != nil {
		var e *dnsclient.Error
		if !errors.As(err, &e) {
			return "a foreign error: " + err.Error()
		}
		return strings.TrimSpace(e.Result() + " " + e.Server)
	}
	s := fmt.Sprintf("%s exists=%v %v", a.Name, a.Exists, a.Security)
	for _, rr := range a.Records {
		s += " " + dns.Field(rr, 1)
	}
	return s
}

const good = "a.test. exists=true secure 192.0.2.1"

// observed returns a logger, and what was said through it above debug, one
// line for each message.
func observed() (*zap.Logger, func() []string) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), func() []string {
		var lines []string
		for _, e := range logs.All() {
			lines = append(lines, fmt.Sprintf("%s %s %v", e.Level, e.Message, e.ContextMap()))
		}
		return lines
	}
}
