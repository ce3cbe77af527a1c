// Package socketmap is the protocol with which Postfix asks a table that lives
// in another process: one netstring with the name of a map and a key, one
// netstring back with a status and a text.
//
// [Server] is modelled on net/http: it serves any number of listeners with one
// [Handler]. [Client] asks as Postfix does. [Listen] opens what a server
// serves.
//
// The package does not know what maps mean, keeps no answers, and does not
// authenticate: who can connect may ask.
//
// Limits: a request of 10,256 bytes, a key of 10,000, a reply of 100,000, with
// its status; one goroutine and, at rest, at most 12 KiB of buffers per
// connection, mostly less than 1; as many connections as [Server.MaxConns] says;
// 64 goroutines that wait for the next one.
//
// Specification: socketmap_table(5) of Postfix.
package socketmap

import (
	"context"
	"time"
)

// Limits of the protocol, in bytes, as Postfix draws them.
const (
	// MaxRequest is the longest request that is read; a longer one ends the
	// connection.
	MaxRequest = 10_256
	// MaxKey is the longest key that a handler is asked for; a longer one is
	// not found.
	MaxKey = 10_000
	// MaxReply is the longest reply, with its status.
	MaxReply = 100_000
)

// Request is one question.
type Request struct {
	// Map is the name of the map, as it came.
	Map string
	// Key is what is looked up. It may be empty, and hold any byte.
	Key string
	// Asked is when the request was read. [Server] always sets it.
	Asked time.Time
}

// Status is the first word of a reply.
type Status uint8

// The statuses. The zero value is the one that makes Postfix try again later.
const (
	// Temp: it cannot be known now. The text says why.
	Temp Status = iota
	// OK: the text is the value.
	OK
	// NotFound: the map does not have the key. There is no text.
	NotFound
	// Timeout: as Temp. Only read, never sent.
	Timeout
	// Perm: the map cannot answer. Only read, never sent.
	Perm
)

// String returns the word of the protocol.
func (s Status) String() string {
	switch s {
	case OK:
		return "OK"
	case NotFound:
		return "NOTFOUND"
	case Timeout:
		return "TIMEOUT"
	case Perm:
		return "PERM"
	default:
		return "TEMP"
	}
}

// Reply is the answer to a [Request].
type Reply struct {
	Status Status
	// Text is the value or the reason.
	Text string
}

// String returns the reply as it is sent, without the framing.
func (r Reply) String() string { return r.Status.String() + " " + r.Text }

// Handler answers requests. It returns the status of its answer, and text with
// the text of its answer appended, so that the buffer of the connection is all
// that an answer is written to. A connection's requests are given to it one by
// one, in order, by one goroutine; those of different connections at the same
// time. When ctx ends, it answers at once.
type Handler interface {
	ServeSocketmap(ctx context.Context, req Request, text []byte) (Status, []byte)
}

// HandlerFunc is a function that is a [Handler].
type HandlerFunc func(ctx context.Context, req Request) Reply

// ServeSocketmap calls f.
func (f HandlerFunc) ServeSocketmap(ctx context.Context, req Request, text []byte) (Status, []byte) {
	r := f(ctx, req)
	return r.Status, append(text, r.Text...)
}
