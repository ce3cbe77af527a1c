package dnstest

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/miekg/dns"
)

// TB is the part of testing.TB that [Start] needs.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Server answers over UDP and TCP on one address.
type Server struct {
	Zones
	addr     string
	closing  chan struct{}
	udp, tcp *dns.Server
	serving  sync.WaitGroup
	once     sync.Once
	err      error
}

// Start starts a server with zones on a free port of 127.0.0.1, for as long as
// the test runs.
func Start(t TB, zones string) *Server {
	t.Helper()
	s, err := Listen("127.0.0.1:0", zones)
	if err != nil {
		t.Fatalf("start the DNS server: %v", err)
		return nil
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Fatalf("close the DNS server: %v", err)
		}
	})
	return s
}

// Listen starts a server with zones on an address; port 0 is any port that is
// free.
func Listen(address, zones string) (*Server, error) {
	s := &Server{closing: make(chan struct{})}
	if err := s.Load(zones); err != nil {
		return nil, err
	}
	packets, listener, err := listen(address)
	if err != nil {
		return nil, fmt.Errorf("dns server: %w", err)
	}
	s.addr = packets.LocalAddr().String()
	s.udp = &dns.Server{PacketConn: packets, Handler: s.handler(overUDP)}
	s.tcp = &dns.Server{Listener: listener, Handler: s.handler(overTCP)}
	s.start(s.udp)
	s.start(s.tcp)
	return s, nil
}

// Addr is the address of the server, with its port.
func (s *Server) Addr() string { return s.addr }

// Close stops the server and waits for its end. It may be called twice.
func (s *Server) Close() error {
	s.once.Do(func() {
		close(s.closing)
		s.err = errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
		s.serving.Wait()
	})
	return s.err
}

// listen opens both sockets on one port.
func listen(address string) (net.PacketConn, net.Listener, error) {
	const tries = 20 // A port that is free for UDP may be taken for TCP.
	var failure error
	for range tries {
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			return nil, nil, err
		}
		listener, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, listener, nil
		}
		failure = errors.Join(err, packets.Close())
	}
	return nil, nil, failure
}

// start runs a server, and returns when it serves.
func (s *Server) start(srv *dns.Server) {
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	s.serving.Go(func() {
		// The sockets are open already, so that nothing but Shutdown ends it.
		_ = srv.ActivateAndServe()
	})
	<-started
}

// handler answers the queries of one transport.
func (s *Server) handler(via transport) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r, err := s.reply(q, via)
		if err != nil {
			m := new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
			_ = w.WriteMsg(m) // A client that is gone gets no answer.
			return
		}
		if !wait(r.delay, s.closing) {
			return
		}
		for _, m := range r.messages {
			_, _ = w.Write(m) // As above.
		}
	})
}
