package check

import "errors"

// Answers that are a refusal where TLS is demanded.
var (
	// ErrNoSTARTTLS: the host does not offer STARTTLS.
	ErrNoSTARTTLS = errors.New("the host does not offer STARTTLS")
	// ErrInjected: there was more than the answer to STARTTLS. It could be
	// anybody's.
	ErrInjected = errors.New("the host sent more than its answer to STARTTLS")
	// ErrHandshake: no version of TLS, or no cipher, in common.
	ErrHandshake = errors.New("the TLS handshake failed")
)

// Why a talk ended before TLS, so that it is not known what the host would have
// shown.
var (
	// ErrUnreachable: no connection to any address of the host.
	ErrUnreachable = errors.New("no connection")
	// ErrTurnedAway: the host greets or answers EHLO with a refusal, or is no
	// mail server.
	ErrTurnedAway = errors.New("turned away")
	// ErrNotBegun: the host offers STARTTLS and refuses it.
	ErrNotBegun = errors.New("TLS is not begun")
	// ErrLost: the host fell silent, or hung up.
	ErrLost = errors.New("connection lost")
)

// earlyEnds are all of these.
var earlyEnds = [...]error{ErrUnreachable, ErrTurnedAway, ErrNotBegun, ErrLost}

// Early reports whether the talk ended before TLS, so that it cannot be known
// whether Postfix would deliver.
func (p *Probe) Early() bool {
	for _, end := range earlyEnds {
		if errors.Is(p.Err, end) {
			return true
		}
	}
	return false
}

// earlyEnd is an error with its kind, one of earlyEnds, which is not shown.
type earlyEnd struct{ kind, err error }

// Error returns the message of the error.
func (e *earlyEnd) Error() string { return e.err.Error() }

// Unwrap returns both.
func (e *earlyEnd) Unwrap() []error { return []error{e.kind, e.err} }
