//go:build e2e

// Package policyhost is one HTTPS server that stands for the policy hosts
// "mta-sts.<domain>" of all domains. What each of them shows and answers is said
// by who starts it; package lab and package world each have a way of their own to
// say so. It has no certificates and no policies.
//
// Specification: RFC 8461, section 3.3.
package policyhost

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// path is where a policy is (RFC 8461, section 3.3).
const path = "/.well-known/mta-sts.txt"

// NameOf returns the policy host of a domain (RFC 8461, section 3.3).
func NameOf(domain string) string { return prefix + strings.TrimSuffix(domain, ".") }

// DomainOf returns the domain of a policy host; false if the name is of none.
func DomainOf(host string) (string, bool) { return strings.CutPrefix(host, prefix) }

const prefix = "mta-sts."

// Answer is what a policy host answers.
type Answer struct {
	// Text is the policy file, byte for byte.
	Text string
	// Status is the HTTP status; zero means 200.
	Status int
	// Type is the media type; empty means text/plain.
	Type string
	// Header is sent too.
	Header http.Header
	// Hang makes the host take the question and never answer.
	Hang bool
}

// Options say where the hosts are and how they do. All are needed but Elsewhere.
type Options struct {
	// Addresses are those at whose port 443 they are.
	Addresses []string
	// Certificate answers the first message of a handshake; an error ends it.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Answer says what the host of a name answers; false means 404. It is asked
	// once for each request, whatever the path is.
	Answer func(host string) (Answer, bool)
	// Elsewhere is a path at which the bare policy is too, for whoever follows a
	// redirect; empty means that there is none.
	Elsewhere string
}

// Start starts the hosts. They end with the test.
func Start(t testing.TB, o Options) error {
	hosts := &hosts{o: o, end: make(chan struct{})}
	server := &http.Server{
		Handler:   hosts,
		TLSConfig: &tls.Config{GetCertificate: o.Certificate, MinVersion: tls.VersionTLS12},
		// Handshakes that fail are part of the tests.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		close(hosts.end)
		if err := server.Close(); err != nil {
			t.Errorf("stopping the policy hosts: %v", err)
		}
		serving.Wait()
	})
	for _, address := range o.Addresses {
		l, err := net.Listen("tcp", address+":443")
		if err != nil {
			return err
		}
		serving.Go(func() {
			if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("the policy hosts ended: %v", err)
			}
		})
	}
	return nil
}

// hosts are all of them.
type hosts struct {
	o   Options
	end chan struct{} // closed when those who hang are to let go
}

// ServeHTTP implements [http.Handler].
func (h *hosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := h.o.Answer(r.Host)
	switch {
	case ok && r.URL.Path == path:
	case ok && r.URL.Path == h.o.Elsewhere:
		a = Answer{Text: a.Text}
	default:
		http.NotFound(w, r)
		return
	}
	if a.Hang {
		select {
		case <-r.Context().Done():
		case <-h.end:
		}
		return
	}
	a.write(w)
}

func (a *Answer) write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if a.Type == "" {
		a.Type = "text/plain"
	}
	if a.Status == 0 {
		a.Status = http.StatusOK
	}
	w.Header().Set("Content-Type", a.Type)
	w.WriteHeader(a.Status)
	// A client that goes away in the middle is its own business.
	_, _ = io.WriteString(w, a.Text)
}
