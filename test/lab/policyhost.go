//go:build e2e

package lab

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
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

// policyPath is where a policy is (RFC 8461, section 3.3).
const policyPath = "/.well-known/mta-sts.txt"

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
	ca  *CA
	end chan struct{}

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

// hostOf returns the policy host of a domain (RFC 8461, section 3.3).
func hostOf(domain string) string { return "mta-sts." + strings.TrimSuffix(domain, ".") }

func startPolicyHosts(t testing.TB, ca *CA) (*PolicyHosts, error) {
	h := &PolicyHosts{
		ca: ca, end: make(chan struct{}),
		policies: make(map[string]Policy), fetches: make(map[string]int),
	}
	server := &http.Server{
		Handler:   h,
		TLSConfig: &tls.Config{GetCertificate: h.certificate, MinVersion: tls.VersionTLS12},
		// Handshakes that fail are part of the tests.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	var serving sync.WaitGroup
	for _, address := range []string{PolicyAddress, ForbiddenAddress} {
		l, err := net.Listen("tcp", address+":443")
		if err != nil {
			return nil, err
		}
		serving.Go(func() {
			if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("the policy hosts ended: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		close(h.end)
		if err := server.Close(); err != nil {
			t.Errorf("stopping the policy hosts: %v", err)
		}
		serving.Wait()
	})
	return h, nil
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

// ServeHTTP implements [http.Handler].
func (h *PolicyHosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	p, ok := h.policies[r.Host]
	h.fetches[r.Host]++
	h.mu.Unlock()
	switch {
	case ok && r.URL.Path == policyPath:
	case ok && r.URL.Path == Elsewhere:
		p = Policy{Text: p.Text}
	default:
		http.NotFound(w, r)
		return
	}
	if p.Hang {
		select {
		case <-r.Context().Done():
		case <-h.end:
		}
		return
	}
	for name, values := range p.Header {
		w.Header()[name] = values
	}
	if p.Type == "" {
		p.Type = "text/plain"
	}
	if p.Status == 0 {
		p.Status = http.StatusOK
	}
	w.Header().Set("Content-Type", p.Type)
	w.WriteHeader(p.Status)
	// A client that goes away in the middle is its own business.
	_, _ = io.WriteString(w, p.Text)
}
