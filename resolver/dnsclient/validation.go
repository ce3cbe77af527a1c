package dnsclient

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"
)

const (
	// testEvery is how long an answer to a test counts.
	testEvery = 5 * time.Minute
	// retestEvery is how long silence counts, and how often [Client.Run]
	// looks for tests that are due.
	retestEvery = time.Second
)

// Outcome is how the test of a server went: it is asked for the NS records of
// the root, which are signed, and ought to answer with AD.
type Outcome uint8

// The outcomes.
const (
	// OutcomeUntested: the server was not tested yet.
	OutcomeUntested Outcome = iota
	// OutcomePassed: the records came with AD, from a server whose AD bit
	// counts.
	OutcomePassed
	// OutcomeFailed: an answer, without AD or from a server whose AD bit does
	// not count.
	OutcomeFailed
	// OutcomeSilent: nothing that is an answer, such as SERVFAIL, or a proof
	// that the root has no servers.
	OutcomeSilent
)

// String returns the outcome as a word.
func (o Outcome) String() string {
	switch o {
	case OutcomePassed:
		return "passed"
	case OutcomeFailed:
		return "failed"
	case OutcomeSilent:
		return "silent"
	default:
		return "untested"
	}
}

// ServerStatus is a server and the outcome of its last test.
type ServerStatus struct {
	Addr netip.AddrPort
	// Trusted says that the AD bit of the server counts.
	Trusted bool
	Outcome Outcome
	// Detail says why the test was not passed, for people.
	Detail string
	// Tested is when the test began; zero if there was none.
	Tested time.Time
}

// Servers returns the servers that are asked now, in the order of the list.
func (c *Client) Servers() []ServerStatus {
	p := c.servers.current()
	list := make([]ServerStatus, len(p.servers))
	for i, s := range p.servers {
		list[i] = ServerStatus{Addr: s.addr, Trusted: s.trustAD}
		if t := s.last.Load(); t != nil {
			list[i].Outcome, list[i].Detail, list[i].Tested = t.outcome, t.detail, t.began
		}
	}
	return list
}

// Run tests servers until ctx ends, and returns its error: each at the start
// and when it is new in the list, then every 5 minutes, and every second, or as
// soon as the last test is over, while it is silent. A server that was silent
// to a query is tested within a second.
func (c *Client) Run(ctx context.Context) error {
	tick := time.NewTicker(retestEvery)
	defer tick.Stop()
	for {
		c.testServers(ctx)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Validating reports whether it may be possible to tell secure answers from
// insecure ones. It is false only while some server fails its test, and none is
// left that passed when it was last heard of: then DANE cannot work.
//
// It waits until each server was tested once, until ctx ends at most. Whoever
// depends on [Answer].Security calls it first, with [Client.Run] running or
// not; answers of untested servers are Unknown.
func (c *Client) Validating(ctx context.Context) bool {
	if !c.servers.current().tested() {
		c.testServers(ctx)
	}
	return c.servers.current().validation() != blind
}

// testServers tests the servers whose test is due, all at once. One caller at a
// time does so, the others wait for him.
func (c *Client) testServers(ctx context.Context) {
	select {
	case c.testing <- struct{}{}:
		defer func() { <-c.testing }()
	case <-ctx.Done():
		return
	}
	p, now := c.servers.current(), time.Now()
	tested := false
	var tests sync.WaitGroup
	for _, s := range p.servers {
		if s.testDue(now) {
			tested = true
			tests.Go(func() { c.test(ctx, s, now) })
		}
	}
	tests.Wait()
	if tested {
		c.tell(p)
	}
}

// test is a test of a server that is over.
type test struct {
	outcome Outcome
	detail  string
	began   time.Time
	// validates says that the server passed when it was last heard of: its
	// silence does not mean that it does so no more.
	validates bool
}

func (s *server) testDue(now time.Time) bool {
	last := s.last.Load()
	switch {
	case last == nil:
		return true
	case last.outcome == OutcomeSilent || s.doubted.Load():
		return now.Sub(last.began) >= retestEvery
	default:
		return now.Sub(last.began) >= testEvery
	}
}

// test tests a server, in one try. A test that is cut short says nothing of the
// server.
func (c *Client) test(ctx context.Context, s *server, now time.Time) {
	s.doubted.Store(false)
	result, err := c.try(ctx, s, newChain(".", dns.TypeNS))
	if ctx.Err() != nil {
		return
	}
	t := s.judge(result, err)
	t.began = now
	s.last.Store(t)
}

// judge tells how a test went.
func (s *server) judge(result chain, err *Error) *test {
	switch last := s.last.Load(); {
	case err != nil:
		return &test{outcome: OutcomeSilent, detail: err.Error(), validates: last != nil && last.validates}
	case !s.trustAD:
		return &test{outcome: OutcomeFailed, detail: "its AD bit does not count: it is not on this host, and not declared to be trusted"}
	case result.security != Secure:
		return &test{outcome: OutcomeFailed, detail: "it answered without AD: it does not validate"}
	case len(result.answer.Records) == 0:
		return &test{outcome: OutcomeSilent, detail: "it proves that the root has no servers, which cannot be", validates: last != nil && last.validates}
	default:
		return &test{outcome: OutcomePassed, validates: true}
	}
}

// validation is what the tests of all servers say together.
type validation uint8

const (
	// undecided: there are servers yet to be tested, or all are silent.
	undecided validation = iota
	// validating: a server passed when it was last heard of.
	validating
	// blind: no server did, and at least one failed in its last test.
	blind
)

func (p *pool) validation() validation {
	untested, failed := false, false
	for _, s := range p.servers {
		t := s.last.Load()
		switch {
		case t == nil:
			untested = true
		case t.validates:
			return validating
		case t.outcome == OutcomeFailed:
			failed = true
		}
	}
	if failed && !untested {
		return blind
	}
	return undecided
}

// tested reports whether each server was tested once.
func (p *pool) tested() bool {
	for _, s := range p.servers {
		if s.last.Load() == nil {
			return false
		}
	}
	return true
}

// silent reports whether no server answered its last test.
func (p *pool) silent() bool {
	for _, s := range p.servers {
		if t := s.last.Load(); t == nil || t.outcome != OutcomeSilent {
			return false
		}
	}
	return true
}

// passed reports whether a server passed its last test.
func (p *pool) passed() bool {
	return slices.ContainsFunc(p.servers, func(s *server) bool {
		t := s.last.Load()
		return t != nil && t.outcome == OutcomePassed
	})
}

// told is what the log says about the servers.
type told struct{ off, silent bool }

// after is what the log has to say once p was tested. Of what is undecided
// nothing new is said.
func (t told) after(p *pool) told {
	switch p.validation() {
	case blind:
		t.off = true
	case validating:
		t.off = false
	}
	t.silent = p.silent()
	return t
}

// tell shows what the tests brought: in the metrics always, in the log what
// changed. The caller holds testing.
func (c *Client) tell(p *pool) {
	on := 0
	if p.passed() {
		on = 1
	}
	c.metrics.Validating(on)
	before, now := c.told, c.told.after(p)
	c.told = now
	servers := zap.Strings("servers", p.describe())
	switch {
	case now.off && !before.off:
		c.log.Error("DANE is off: no DNS server validates, so every MX host counts as one without DANE", servers,
			zap.String("remedy", "ask a validating resolver on this host; or, if nobody can tamper with the way to a validating server, set dns.trust_ad"))
	case before.off && !now.off:
		c.log.Info("DANE is on again: a DNS server validates", servers)
	}
	switch {
	case now.silent && !before.silent:
		c.log.Warn("no DNS server answers: policies that are known hold, but mail to domains that enforce one waits", servers)
	case before.silent && !now.silent:
		c.log.Info("a DNS server answers again", servers)
	}
}

// describe says of each server how its last test went.
func (p *pool) describe() []string {
	list := make([]string, len(p.servers))
	for i, s := range p.servers {
		list[i] = s.addr.String()
		if t := s.last.Load(); t != nil {
			list[i] += " " + t.outcome.String()
			if t.detail != "" {
				list[i] += ": " + t.detail
			}
		}
	}
	return list
}
