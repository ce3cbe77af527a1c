//go:build e2e

package world

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"tlspolicyd/test/policyhost"
)

// State is how a policy host does.
type State uint8

// The states.
const (
	// Well: the host answers with its policy.
	Well State = iota
	// Missing: it answers 404.
	Missing
	// Untrusted: its certificate is signed by nobody.
	Untrusted
	// Garbage: it answers with something that is no policy.
	Garbage
	// Hanging: it takes the question and never answers.
	Hanging
	// Dead: it closes every connection.
	Dead
)

// Hosts are the hosts "mta-sts.<domain>" of all domains, on one address.
type Hosts struct {
	addr string
	ca   *authority

	mu      sync.Mutex // guards what follows
	all     State
	states  map[string]State
	texts   map[string]string
	pattern func(domain string) string
	fetches map[string]int
	total   int
}

// Set is the policy of a domain from now on.
func (h *Hosts) Set(domain, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.texts[domain] = text
}

// Pattern makes the policies of domains that have none of their own; empty
// stands for none. It is called by one goroutine at a time.
func (h *Hosts) Pattern(text func(domain string) string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pattern = text
}

// Turn changes how the host of a domain does.
func (h *Hosts) Turn(domain string, s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[domain] = s
}

// TurnAll changes how all hosts do, whatever each does by itself; Well gives
// each back its own state.
func (h *Hosts) TurnAll(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = s
}

// Fetches returns how often somebody came to the policy host of domain, however
// that ended.
func (h *Hosts) Fetches(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fetches[domain]
}

// Total returns how often somebody came to any policy host.
func (h *Hosts) Total() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// visit counts a client of the host of a domain and returns how that host does.
func (h *Hosts) visit(domain string) State {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fetches[domain]++
	h.total++
	return h.state(domain)
}

// state returns how the host of a domain does. h.mu is held.
func (h *Hosts) state(domain string) State {
	if h.all != Well {
		return h.all
	}
	return h.states[domain]
}

// lastAddress is the address of the policy hosts of the last world.
var lastAddress atomic.Uint32

func startHosts(t testing.TB) *Hosts {
	t.Helper()
	n := lastAddress.Add(1)
	h := &Hosts{
		addr:   fmt.Sprintf("127.1.%d.%d", n/250, n%250+1),
		states: make(map[string]State), texts: make(map[string]string), fetches: make(map[string]int),
	}
	var err error
	if h.ca, err = newAuthority(); err != nil {
		t.Fatalf("starting the policy hosts: %v", err)
	}
	o := policyhost.Options{Addresses: []string{h.addr}, Certificate: h.certificate, Answer: h.answer}
	if err := policyhost.Start(t, o); err != nil {
		t.Fatalf("starting the policy hosts: %v", err)
	}
	return h
}

var errDead = errors.New("the host is dead")

// certificate answers the first message of a handshake.
func (h *Hosts) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	domain, ok := policyhost.DomainOf(hello.ServerName)
	if !ok {
		return nil, fmt.Errorf("no policy host %q", hello.ServerName)
	}
	switch h.visit(domain) {
	case Dead:
		return nil, errors.Join(errDead, hello.Conn.Close())
	case Untrusted:
		return h.ca.untrusted(hello.ServerName)
	default:
		return h.ca.certificate(hello.ServerName)
	}
}

// answer returns what a host answers.
func (h *Hosts) answer(host string) (policyhost.Answer, bool) {
	domain, _ := policyhost.DomainOf(host)
	text, state := h.publishes(domain)
	switch state {
	case Missing:
		return policyhost.Answer{}, false
	case Garbage:
		text = "version: STSv1\nmode: \x00enforce\nwelcome to our web site\n"
	}
	return policyhost.Answer{Text: text, Hang: state == Hanging}, true
}

// publishes returns the policy of a domain, and how its host does.
func (h *Hosts) publishes(domain string) (text string, s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s = h.state(domain)
	if text, ok := h.texts[domain]; ok || h.pattern == nil {
		return text, s
	}
	return h.pattern(domain), s
}
