// Package dnstrace records what is asked of the DNS and what it says, for
// people who want to see why an answer is what it is.
//
// A [Recorder] stands between the packages that ask and the client: it changes
// neither questions nor answers, but asks each question once. It is for one
// look at one domain, and remembers everything until it is dropped.
package dnstrace

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
)

// DNS is what is recorded: a [dnsclient.Client].
type DNS interface {
	Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error)
	Validating(ctx context.Context) bool
}

// Step is one question and what became of it.
type Step struct {
	// Name is what was asked for, in lower case without the final dot, and Type
	// the type as in a zone file.
	Name, Type string
	Answer     dnsclient.Answer
	// Err says why there is no answer; nil if there is one.
	Err error
	// Started is when the question was asked, and Took how long the answer
	// took.
	Started time.Time
	Took    time.Duration
}

// Records returns the data of the records, as in a zone file.
func (s *Step) Records() []string {
	var data []string
	for _, rr := range s.Answer.Records {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return data
}

// Alias returns the name at the end of the aliases, and false if the name asked
// for is none.
func (s *Step) Alias() (string, bool) {
	end := trimmed(s.Answer.Name)
	return end, s.Err == nil && end != s.Name
}

// Recorder asks the DNS and remembers. It is safe for concurrent use.
type Recorder struct {
	dns DNS

	mu    sync.Mutex // guards what follows
	steps []*step
	known map[question]*step
}

type question struct {
	name  string
	qtype uint16
}

// step is a step that may be in progress: done is closed when it is over.
type step struct {
	Step
	done chan struct{}
	// cutShort says that who asked gave up.
	cutShort bool
}

// New returns a recorder that asks d.
func New(d DNS) *Recorder {
	return &Recorder{dns: d, known: make(map[question]*step)}
}

// Validating is that of the client.
func (r *Recorder) Validating(ctx context.Context) bool { return r.dns.Validating(ctx) }

// Query asks a question, or returns what was said to it before. What was cut
// short by who asked is forgotten.
func (r *Recorder) Query(ctx context.Context, name string, qtype uint16) (dnsclient.Answer, error) {
	q := question{trimmed(name), qtype}
	for {
		s, ours := r.begin(q)
		if ours {
			s.Answer, s.Err = r.dns.Query(ctx, name, qtype)
			s.Took, s.cutShort = time.Since(s.Started), ctx.Err() != nil
			r.end(q, s)
			return s.Answer, s.Err
		}
		select {
		case <-s.done:
			if s.Err == nil || !s.cutShort {
				return s.Answer, s.Err
			}
		case <-ctx.Done():
			return dnsclient.Answer{}, ctx.Err()
		}
	}
}

// begin finds the step of a question, or makes one that is the caller's to end.
func (r *Recorder) begin(q question) (s *step, ours bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.known[q]; s != nil {
		return s, false
	}
	s = &step{
		Step: Step{Name: q.name, Type: dns.Type(q.qtype).String(), Started: time.Now()},
		done: make(chan struct{}),
	}
	r.known[q] = s
	return s, true
}

// end ends a step, whose last change this is.
func (r *Recorder) end(q question, s *step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(s.done) // whoever waits for it may ask again
	if s.Err != nil && s.cutShort {
		delete(r.known, q)
	}
	r.steps = append(r.steps, s)
}

// Steps returns what was asked so far, in the order of the answers.
func (r *Recorder) Steps() []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := make([]Step, len(r.steps))
	for i, s := range r.steps {
		steps[i] = s.Step
	}
	return steps
}

// Addresses asks for the addresses of a host, IPv6 first. The error is that of
// a lookup that failed when the other gave none.
func (r *Recorder) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var found []netip.Addr
	var failed error
	for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeA} {
		answer, err := r.Query(ctx, dns.Fqdn(host), qtype)
		if err != nil {
			failed = err
			continue
		}
		for _, rr := range answer.Records {
			if addr, ok := addressOf(rr); ok {
				found = append(found, addr)
			}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, failed
}

func addressOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok := netip.AddrFromSlice(rr.A)
		return addr.Unmap(), ok
	case *dns.AAAA:
		addr, ok := netip.AddrFromSlice(rr.AAAA)
		return addr.Unmap(), ok
	default:
		return netip.Addr{}, false
	}
}

func trimmed(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
