package dnsclient

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"
)

// ErrLoop is what an error of [KindLoop] wraps if the aliases do form a loop. Then
// the DNS has answered: no record can be at the name, and there is nothing to
// wait for.
var ErrLoop = errors.New("the aliases form a loop")

// Kind says why a query has no answer. With every kind but [KindName] it is
// not known whether there are records, see also [ErrLoop].
type Kind uint8

// The kinds of errors.
const (
	// KindNetwork: a server could not be reached, or hung up.
	KindNetwork Kind = iota
	// KindTimeout: no server answered in time, or the caller's time was over.
	KindTimeout
	// KindCanceled: the caller gave up.
	KindCanceled
	// KindServFail: the server failed, or found the data to be bogus.
	KindServFail
	// KindRefused: the server refused to answer.
	KindRefused
	// KindRcode: the server answered with another error.
	KindRcode
	// KindLame: the server does not recurse, or refers to others.
	KindLame
	// KindMalformed: the answer cannot be read, or contradicts itself.
	KindMalformed
	// KindLoop: the aliases form a loop, or a chain of more than 8 links.
	KindLoop
	// KindName: what was asked for cannot be the name of anything in the
	// DNS (RFC 1035, section 2.3.4). No server was asked.
	KindName
)

// words are the kinds as in the labels of metrics.
var words = [...]string{
	KindNetwork:   "network",
	KindTimeout:   "timeout",
	KindCanceled:  "canceled",
	KindServFail:  "servfail",
	KindRefused:   "refused",
	KindRcode:     "rcode",
	KindLame:      "lame",
	KindMalformed: "malformed",
	KindLoop:      "loop",
	KindName:      "name",
}

// String returns the kind as one word, as in the labels of metrics.
func (k Kind) String() string {
	if int(k) >= len(words) {
		return words[KindNetwork]
	}
	return words[k]
}

// retry reports whether it is of use to ask the same server once more: what
// a server said in so many words, it would only say again.
func (k Kind) retry() bool {
	return k == KindNetwork || k == KindTimeout || k == KindMalformed
}

// final reports whether no other server would give a better answer.
func (k Kind) final() bool {
	return k == KindCanceled || k == KindLoop || k == KindName
}

// Error is why a query has no answer: of several tries, the one that says
// most. Whoever gets it must not take it for "there is none", save for
// [KindName] and [ErrLoop].
type Error struct {
	Kind Kind
	// Server is the address of the server that was asked; empty when none
	// was.
	Server string
	// Name and Type are what was asked: the end of the chain of aliases so
	// far.
	Name string
	Type uint16
	// Err is what went wrong.
	Err error
}

// Error says what was asked, of whom, and what went wrong.
func (e *Error) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("dns: %s %q: %v", typeName(e.Type), e.Name, e.Err)
	}
	return fmt.Sprintf("dns: %s %q at %s: %v", typeName(e.Type), e.Name, e.Server, e.Err)
}

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// Result is the label of metrics: the kind as one word.
func (e *Error) Result() string { return e.Kind.String() }

// over returns the error that says more: what a server said goes before a
// server that said nothing; otherwise the later one.
func (e *Error) over(earlier *Error) *Error {
	if earlier != nil && e.Kind.retry() && !earlier.Kind.retry() {
		return earlier
	}
	return e
}

// cause is an error of which the kind is known.
type cause struct {
	kind Kind
	err  error
}

func (c *cause) Error() string { return c.err.Error() }
func (c *cause) Unwrap() error { return c.err }

func causef(kind Kind, format string, args ...any) error {
	return &cause{kind, fmt.Errorf(format, args...)}
}

// kindOf finds the kind of an error of one try, where ctx is the caller's.
func kindOf(ctx context.Context, err error) Kind {
	switch ctx.Err() {
	case nil:
	case context.Canceled:
		return KindCanceled
	default:
		return KindTimeout
	}
	var c *cause
	if errors.As(err, &c) {
		return c.kind
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return KindTimeout
	}
	return KindNetwork
}

// typeName returns the name of a type, as in a zone file.
func typeName(qtype uint16) string {
	return dns.Type(qtype).String()
}
