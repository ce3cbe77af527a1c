//go:build e2e

package lab

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"tlspolicyd/test/policyhost"
)

// Addresses for the A record of a policy host.
const (
	// PolicyAddress is where every policy host is.
	PolicyAddress = "127.0.0.2"
	// ForbiddenAddress is another at which they are, but to which the daemon
	// may not connect.
	ForbiddenAddress = "127.9.0.2"
	// DeadAddress is one at which nobody listens.
	DeadAddress = "127.0.0.3"
)

// Elsewhere is a path at which a host answers with its policy, for whoever
// follows a redirect.
const Elsewhere = "/elsewhere"

// Policy is what the policy host of a domain answers.
type Policy struct {
	// Text is the policy file, byte for byte.
	Text string
	// Status is the HTTP status; zero means 200.
	Status int
	// Type is the media type; empty means text/plain.
	Type string
	// Header is sent too.
	Header http.Header
	// Cert is shown by the host; nil means one that is right.
	Cert *tls.Certificate
	// Hang makes the host take the question and never answer.
	Hang bool
}

// PolicyHosts are the hosts "mta-sts.<domain>" of all domains.
type PolicyHosts struct {
	ca *CA

	mu       sync.Mutex // guards what follows
	policies map[string]Policy
	fetches  map[string]int
}

// Set lets the policy host of domain answer with p from now on.
func (h *PolicyHosts) Set(t testing.TB, domain string, p Policy) {
	t.Helper()
	if p.Cert == nil {
		p.Cert = h.ca.Certificate(t, hostOf(domain))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.policies[hostOf(domain)] = p
}

// Remove lets the policy host of domain refuse every handshake.
func (h *PolicyHosts) Remove(domain string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.policies, hostOf(domain))
}

// Fetches returns how often the policy of domain was asked for.
func (h *PolicyHosts) Fetches(domain string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fetches[hostOf(domain)]
}

// hostOf returns the policy host of a domain.
func hostOf(domain string) string { return policyhost.NameOf(domain) }

func startPolicyHosts(t testing.TB, ca *CA) (*PolicyHosts, error) {
	h := &PolicyHosts{ca: ca, policies: make(map[string]Policy), fetches: make(map[string]int)}
	return h, policyhost.Start(t, policyhost.Options{
		Addresses:   []string{PolicyAddress, ForbiddenAddress},
		Certificate: h.certificate, Answer: h.answer, Elsewhere: Elsewhere,
	})
}

func (h *PolicyHosts) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.policies[hello.ServerName]
	if !ok {
		return nil, fmt.Errorf("no policy host %q", hello.ServerName)
	}
	return p.Cert, nil
}

func (h *PolicyHosts) answer(host string) (policyhost.Answer, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, ok := h.policies[host]
	h.fetches[host]++
	return policyhost.Answer{Text: p.Text, Status: p.Status, Type: p.Type, Header: p.Header, Hang: p.Hang}, ok
}
