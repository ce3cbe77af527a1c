package dnstest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Zones is what a server knows of the world, what it gets wrong, and what it
// was asked. It may be changed at any time; it is safe for concurrent use. The
// zero value is a world without names.
type Zones struct {
	mu     sync.Mutex // guards what follows
	world  *world
	faults map[Question]behaviour
	counts map[Question]int
	asked  []Question
}

// Question is a question that was asked, or for which there is a fault: a
// name in lower case with its final dot, and a type as in a zone file.
type Question struct{ Name, Type string }

// Any stands for every name or every type, where a method takes one.
const Any = "*"

// maxAsked is how many questions are kept; then the older half is dropped.
const maxAsked = 100_000

// Load replaces all zones by those of text. With an error they stay what they
// are.
func (z *Zones) Load(text string) error {
	w, err := parse(text)
	if err != nil {
		return fmt.Errorf("zones: %w", err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.world = w
	return nil
}

// SetZone is [Zones.Load] for a text that is part of a test: it panics if the
// text is wrong.
func (z *Zones) SetZone(text string) {
	if err := z.Load(text); err != nil {
		panic(err)
	}
}

// Queries returns what was asked so far, in order. A question that was asked
// again, over TCP or in another try, is there again.
func (z *Zones) Queries() []Question {
	z.mu.Lock()
	defer z.mu.Unlock()
	return append([]Question(nil), z.asked...)
}

// Count returns how many questions of a type were asked.
func (z *Zones) Count(qtype string) int { return z.CountName(Any, qtype) }

// CountName returns how many questions of a type were asked about name.
func (z *Zones) CountName(name, qtype string) int {
	want := question(name, qtype)
	z.mu.Lock()
	defer z.mu.Unlock()
	n := 0
	for q, count := range z.counts {
		if want.covers(q) {
			n += count
		}
	}
	return n
}

// Reset forgets what was asked.
func (z *Zones) Reset() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.counts, z.asked = nil, nil
}

// ask notes a question, and returns how to answer it.
func (z *Zones) ask(q Question) (*world, behaviour) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.counts == nil {
		z.counts = make(map[Question]int)
	}
	z.counts[q]++
	if len(z.asked) >= maxAsked {
		z.asked = append([]Question(nil), z.asked[maxAsked/2:]...)
	}
	z.asked = append(z.asked, q)
	if z.world == nil {
		z.world = newWorld()
	}
	return z.world, z.behaviour(q)
}

// question makes a question of what a test says. It panics if the type is
// none.
func question(name, qtype string) Question {
	if name != Any {
		name = canonical(name)
	}
	if _, ok := dns.StringToType[qtype]; !ok && qtype != Any {
		panic(fmt.Sprintf("dnstest: unknown type %q", qtype))
	}
	return Question{name, qtype}
}

// covers reports whether q is meant by a question that may hold Any.
func (want Question) covers(q Question) bool {
	return (want.Name == Any || want.Name == q.Name) && (want.Type == Any || want.Type == q.Type)
}

// canonical returns a name in lower case with its final dot.
func canonical(name string) string { return strings.ToLower(dns.Fqdn(name)) }
