package check

import (
	"errors"
	"fmt"
)

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
	// ErrNotLookedUp: the DNS does not say where the host is.
	ErrNotLookedUp = errors.New("the address lookup failed")
	// ErrUnreachable: no connection to any address of the host.
	ErrUnreachable = errors.New("no connection")
	// ErrTurnedAway: the host greets or answers HELO with a refusal, or is no
	// mail server.
	ErrTurnedAway = errors.New("turned away")
	// ErrNotBegun: the host offers STARTTLS and refuses it.
	ErrNotBegun = errors.New("TLS is not begun")
	// ErrLost: the host fell silent, or hung up.
	ErrLost = errors.New("connection lost")
)

// ending is how a talk ends that does not come to a TLS session, and what that
// means where TLS is demanded.
type ending struct {
	kind error
	// early says that it is not known what the host would have shown.
	early bool
	// all is the summary where all hosts end like this; empty means that there
	// is no better one than for hosts of several endings.
	all string
	// remedy says what can be done.
	remedy func(*Report) string
}

// endings are all of them. The first that fits counts.
var endings = [...]ending{
	{ErrNotLookedUp, true, "no mail can be delivered now: the addresses of the mail hosts cannot be looked up", (*Report).dnsRemedy},
	{ErrUnreachable, true, "no mail host can be reached from here, so mail waits", (*Report).wayOut},
	{ErrTurnedAway, true, "", always("the host turns this machine away before TLS, whatever the policy is: its answer says why (a block list, greylisting, too many connections), and no exception helps")},
	{ErrNotBegun, true, "", always(theirs + "the host offers STARTTLS and does not begin it; if that lasts, the exception below lets mail out")},
	{ErrLost, true, "", always("look again later, or from another network: Postfix has more patience (smtp_helo_timeout), and no exception helps")},
	{ErrNoSTARTTLS, false, "", always(theirs + "offer STARTTLS; if it is offered elsewhere, somebody on the way takes it out, and an exception hands mail to them")},
	{ErrInjected, false, "", always(theirs + "let the host say nothing after its answer to STARTTLS; if it does not, somebody on the way puts it in, and an exception hands mail to them")},
	{ErrHandshake, false, "", always(theirs + "let the host speak TLS 1.2 or 1.3, with a cipher in common use" + untilThen)},
}

const (
	theirs    = "the domain's administrator: "
	untilThen = "; until then, the exception below lets mail out"
	// newPolicy is for mail hosts that are not in the policy.
	newPolicy = theirs + "bring the mx lines of the policy up to date, then change the id; if the MX records are others elsewhere, somebody forges them, and an exception hands mail to them"
)

func always(remedy string) func(*Report) string { return func(*Report) string { return remedy } }

// wayOut says what to do where no host is reached.
func (r *Report) wayOut() string {
	return fmt.Sprintf("if others reach them, the way out to port %d is closed here", r.Hop.Port)
}

// ending returns how the talk ended; nil if it came to a TLS session.
func (p *Probe) ending() *ending {
	for i := range endings {
		if errors.Is(p.Err, endings[i].kind) {
			return &endings[i]
		}
	}
	return nil
}

// Early reports whether the talk ended before TLS, so that it cannot be known
// whether Postfix would deliver.
func (p *Probe) Early() bool {
	end := p.ending()
	return end != nil && end.early
}

// earlyEnd is an error with its kind, which is not shown.
type earlyEnd struct{ kind, err error }

// Error returns the message of the error.
func (e *earlyEnd) Error() string { return e.err.Error() }

// Unwrap returns both.
func (e *earlyEnd) Unwrap() []error { return []error{e.kind, e.err} }
