package dnstest

import "time"

// Fault is something that the server does wrong.
type Fault uint16

// The faults.
const (
	// ServFail, Refused: an error in place of an answer.
	ServFail Fault = 1 << iota
	Refused
	// Drop: no answer at all.
	Drop
	// NoAD: the answer, without the AD bit.
	NoAD
	// NoData, NXDomain: a denial, with the SOA record and the AD bit that
	// the name's zone gives it.
	NoData
	NXDomain
	// Malformed: the question, and then rubbish.
	Malformed
	// ForgedFirst: before the answer, over UDP, come a denial with a wrong
	// id and one with a wrong question.
	ForgedFirst
	// Truncated: nothing over UDP but the TC bit.
	Truncated
	// AliasOnly: an alias is not followed; its target must be asked for.
	AliasOnly
)

// behaviour is what the server does about a question.
type behaviour struct {
	faults Fault
	delay  time.Duration
}

func (b behaviour) has(f Fault) bool { return b.faults&f != 0 }

// Fault makes the server do things wrong when it is asked for name and qtype,
// each of which may be [Any], from now on. Without faults it does nothing
// wrong any more. What is said of a name goes before what is said of Any, and
// then the type's before Any's.
func (z *Zones) Fault(name, qtype string, faults ...Fault) {
	z.change(question(name, qtype), func(b *behaviour) {
		b.faults = 0
		for _, f := range faults {
			b.faults |= f
		}
	})
}

// Delay makes the server wait before it answers, in addition to what else it
// does wrong.
func (z *Zones) Delay(name, qtype string, d time.Duration) {
	z.change(question(name, qtype), func(b *behaviour) { b.delay = d })
}

// ClearFaults ends all faults and delays.
func (z *Zones) ClearFaults() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = nil
}

func (z *Zones) change(q Question, f func(*behaviour)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.faults == nil {
		z.faults = make(map[Question]behaviour)
	}
	b := z.faults[q]
	f(&b)
	z.faults[q] = b
}

// behaviour finds what was said of q. The caller holds the lock.
func (z *Zones) behaviour(q Question) behaviour {
	for _, k := range []Question{q, {q.Name, Any}, {Any, q.Type}, {Any, Any}} {
		if b, ok := z.faults[k]; ok {
			return b
		}
	}
	return behaviour{}
}
