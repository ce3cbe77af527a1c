package dnstest

import (
	"time"

	"github.com/miekg/dns"
)

// reply is what is sent back for a query: nothing, or one message, or over UDP
// several.
type reply struct {
	messages [][]byte
	delay    time.Duration
}

// transport says how a query came.
type transport uint8

const (
	overUDP transport = iota
	overTCP
)

// reply answers a query that has one question.
func (z *Zones) reply(q *dns.Msg, via transport) (reply, error) {
	asked := q.Question[0]
	name := canonical(asked.Name)
	w, b := z.ask(Question{name, dns.Type(asked.Qtype).String()})
	if b.has(Drop) {
		return reply{}, nil
	}
	m := b.distort(w, b.answer(w, q))
	size := dns.MaxMsgSize
	if via == overUDP {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		if b.has(Truncated) {
			m.Answer, m.Ns, m.Truncated = nil, nil, true
		}
	}
	m.Truncate(size)
	packed, err := m.Pack()
	if err != nil {
		return reply{}, err
	}
	r := reply{delay: b.delay}
	if b.has(ForgedFirst) && via == overUDP {
		if r.messages, err = forged(q); err != nil {
			return reply{}, err
		}
	}
	if b.has(Malformed) {
		packed = rubbish(packed)
	}
	r.messages = append(r.messages, packed)
	return r, nil
}

// answer makes the message that the world gives.
func (b behaviour) answer(w *world, q *dns.Msg) *dns.Msg {
	links := maxChain
	if b.has(AliasOnly) {
		links = 0
	}
	asked := q.Question[0]
	r := w.resolve(canonical(asked.Name), asked.Qtype, links)
	m := blank(q)
	m.Rcode, m.Answer, m.Ns = r.rcode, r.answer, r.authority
	m.AuthenticatedData = r.secure
	return m
}

// distort turns the answer into what the faults make of it.
func (b behaviour) distort(w *world, m *dns.Msg) *dns.Msg {
	name := canonical(m.Question[0].Name)
	deny := func(rcode int) {
		m.Rcode, m.Answer, m.Ns = rcode, nil, []dns.RR{w.soa(name)}
		m.AuthenticatedData = w.isSigned(name)
	}
	fail := func(rcode int) { m.Rcode, m.Answer, m.Ns, m.AuthenticatedData = rcode, nil, nil, false }
	switch {
	case b.has(ServFail):
		fail(dns.RcodeServerFailure)
	case b.has(Refused):
		fail(dns.RcodeRefused)
	case b.has(NXDomain):
		deny(dns.RcodeNameError)
	case b.has(NoData):
		deny(dns.RcodeSuccess)
	}
	if b.has(NoAD) {
		m.AuthenticatedData = false
	}
	return m
}

// blank makes an empty answer to q.
func blank(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Compress = true
	if q.IsEdns0() != nil {
		m.SetEdns0(1232, false)
	}
	return m
}

// forged makes denials that are no answers to q.
func forged(q *dns.Msg) ([][]byte, error) {
	wrongID, wrongName := blank(q), blank(q)
	wrongID.Id ^= 0x5555
	wrongName.Question = []dns.Question{{Name: "forged.invalid.", Qtype: q.Question[0].Qtype, Qclass: dns.ClassINET}}
	var messages [][]byte
	for _, m := range []*dns.Msg{wrongID, wrongName} {
		m.Rcode, m.AuthenticatedData = dns.RcodeNameError, true
		packed, err := m.Pack()
		if err != nil {
			return nil, err
		}
		messages = append(messages, packed)
	}
	return messages, nil
}

// rubbish keeps the header and the question of a message, and lets it announce
// an answer that is a name which points to itself.
func rubbish(msg []byte) []byte {
	_, off, err := dns.UnpackDomainName(msg, headerSize)
	if err != nil {
		off = headerSize
	}
	msg = append([]byte(nil), msg[:min(off+4, len(msg))]...)
	msg[6], msg[7] = 0, 1                         // ANCOUNT
	msg[8], msg[9], msg[10], msg[11] = 0, 0, 0, 0 // NSCOUNT, ARCOUNT
	at := len(msg)
	return append(msg, 0xC0|byte(at>>8), byte(at), 0xFF)
}

// wait waits for d, and reports whether closing did not happen meanwhile.
func wait(d time.Duration, closing <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-closing:
		return false
	}
}

// headerSize is the size of a message's header (RFC 1035, section 4.1.1).
const headerSize = 12
