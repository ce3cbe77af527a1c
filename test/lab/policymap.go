//go:build e2e

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// PolicyMap is where Postfix asks for TLS policies.
const PolicyMap = "127.0.0.1:8461"

// Most bytes of a reply that Postfix reads.
const maxReply = 100_000

// Script is a policy map that answers as a test tells it to. It shares nothing
// with the program's own server, so that it cannot be wrong in the same way.
type Script struct {
	listener net.Listener
	open     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	replies map[string]string
	asked   []string
	conns   map[net.Conn]struct{}
}

// StartScript starts a policy map at [PolicyMap]. A key that it was not told
// about is not found.
func (l *Lab) StartScript(t testing.TB) *Script {
	t.Helper()
	listener, err := net.Listen("tcp", PolicyMap)
	if err != nil {
		t.Fatalf("starting a scripted policy map: %v", err)
	}
	s := &Script{listener: listener, replies: make(map[string]string), conns: make(map[net.Conn]struct{})}
	s.open.Go(s.accept)
	t.Cleanup(func() {
		listener.Close()
		s.hangUp()
		s.open.Wait()
	})
	return s
}

// Answer sets the reply about a key, as it goes into the netstring.
func (s *Script) Answer(key, reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies[key] = reply
}

// Asked returns the requests so far that contain text, "map key" each.
func (s *Script) Asked(text string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var asked []string
	for _, request := range s.asked {
		if strings.Contains(request, text) {
			asked = append(asked, request)
		}
	}
	return asked
}

func (s *Script) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.open.Go(func() { s.serve(conn) })
	}
}

func (s *Script) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

func (s *Script) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		request, err := readNetstring(r)
		if err != nil {
			return // Postfix closes when it is done
		}
		if _, err := io.WriteString(conn, netstring(s.reply(request))); err != nil {
			return
		}
	}
}

func (s *Script) reply(request string) string {
	_, key, _ := strings.Cut(request, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, request)
	reply, ok := s.replies[key]
	if !ok {
		return "NOTFOUND "
	}
	return reply
}

// Ask asks a policy map one question, as Postfix does.
func Ask(ctx context.Context, addr, mapName, key string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startWithin)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, netstring(mapName+" "+key)); err != nil {
		return "", err
	}
	return readNetstring(bufio.NewReader(conn))
}

func netstring(s string) string { return fmt.Sprintf("%d:%s,", len(s), s) }

func readNetstring(r *bufio.Reader) (string, error) {
	head, err := r.ReadString(':')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(head, ":"))
	if err != nil || n < 0 || n > maxReply {
		return "", fmt.Errorf("%q is no length of a netstring", head)
	}
	body := make([]byte, n+1)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	if body[n] != ',' {
		return "", errors.New("the netstring does not end in a comma")
	}
	return string(body[:n]), nil
}
