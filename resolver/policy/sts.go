package policy

import (
	"fmt"
	"strings"
	"time"
)

// Mode is the mode of an MTA-STS policy (RFC 8461, section 5).
type Mode uint8

// The three modes. The zero value is none of them.
const (
	ModeNone Mode = iota + 1
	ModeTesting
	ModeEnforce
)

// String returns the word that a policy file uses.
func (m Mode) String() string {
	switch m {
	case ModeNone:
		return "none"
	case ModeTesting:
		return "testing"
	case ModeEnforce:
		return "enforce"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// STSPolicy is what a policy file says (RFC 8461, section 3.2). It is never
// changed after it was made.
type STSPolicy struct {
	Mode Mode
	// MaxAge is how long the policy may be applied after it was fetched:
	// from 0 to 31557600 seconds.
	MaxAge time.Duration
	// MX holds the patterns in the order of the file, each once. It is empty
	// only in mode none.
	MX []MXPattern
	// Text is the file as it was fetched, at most 64 KiB.
	Text string
}

// MXPattern is what one mx line allows: a host, or any host one label below a
// domain. It comes from [ParseMXPattern] only.
type MXPattern struct{ pattern string }

// ParseMXPattern reads the value of an mx line: a domain of letters, digits
// and hyphens, with "*." before it or not; one final dot is dropped
// (RFC 8461, section 3.2). The error wraps [ErrSyntax] for what the grammar
// does not allow, and [ErrNoHost] for what it allows though no host has such a
// name.
func ParseMXPattern(s string) (MXPattern, error) {
	rest, wildcard := strings.CutPrefix(s, "*.")
	least := minLabels
	if wildcard {
		least-- // the host has one more
	}
	name, err := hostName(rest, least)
	if err != nil {
		return MXPattern{}, err
	}
	switch {
	case wildcard && strings.HasPrefix(rest, name):
		name = s[:len("*.")+len(name)] // no copy, since many are remembered
	case wildcard:
		name = "*." + name
	}
	return MXPattern{name}, nil
}

// String returns the pattern in lower case, a wildcard as "*.example.net".
func (p MXPattern) String() string { return p.pattern }

// Suffix returns ".example.net" for "*.example.net", and false for a pattern
// that is a host.
func (p MXPattern) Suffix() (string, bool) {
	if strings.HasPrefix(p.pattern, "*.") {
		return p.pattern[1:], true
	}
	return "", false
}

// Matches reports whether the pattern allows host, a name in lower case
// without a final dot. A wildcard stands for exactly one label
// (RFC 8461, section 4.1).
func (p MXPattern) Matches(host string) bool {
	suffix, wildcard := p.Suffix()
	if !wildcard {
		return host == p.pattern
	}
	dot := strings.IndexByte(host, '.')
	return dot > 0 && host[dot:] == suffix
}

// RecordState is what the last look at a domain's _mta-sts TXT record showed.
type RecordState uint8

// The states of the record.
const (
	// RecordUnknown: nobody has looked yet.
	RecordUnknown RecordState = iota
	// RecordAbsent: the DNS says that there is no record, or no valid one.
	RecordAbsent
	// RecordFound: there is exactly one valid record.
	RecordFound
	// RecordFailed: the DNS gave no answer, so it is not known.
	RecordFailed
)

// String returns the state as a word.
func (s RecordState) String() string {
	switch s {
	case RecordAbsent:
		return "absent"
	case RecordFound:
		return "found"
	case RecordFailed:
		return "failed"
	default:
		return "unknown"
	}
}

// STS is the fact that is kept by domain: all that is known of its MTA-STS.
// The zero value says that nobody has looked yet. A new look or fetch gives a
// new value from the old one (see resolver/mtasts); what is still true is
// carried over.
type STS struct {
	// Policy is the one fetched last, in force or expired; nil if there never
	// was one. ID is the id of the TXT record under which it was fetched, and
	// Fetched the time of that fetch, from which its life runs.
	Policy  *STSPolicy
	ID      string
	Fetched time.Time

	// Record is what the look at the TXT record at Looked showed, and Detail
	// says why it is absent or failed. From Recheck on it is time to look
	// again, when somebody asks.
	Record  RecordState
	Detail  string
	Looked  time.Time
	Recheck time.Time

	// Wanted is the id of a record whose policy is to be fetched now; empty
	// when the fact is settled.
	Wanted string

	// Refresh is when the policy is to be fetched again, whether anybody asks
	// or not; zero means never.
	Refresh time.Time
	// Failure is the last fetch if it failed; zero after one that did not.
	Failure Failure
	// Churn counts changes of the id that changed nothing else.
	Churn Churn

	// Lost says that the store once knew this domain, or may have, and cannot
	// say what: whether there is a policy cannot be known.
	Lost bool
}

// Failure is a fetch that failed.
type Failure struct {
	// ID is the id of the record for which the policy was to be fetched.
	ID string
	// At is the time of the last failure; zero means that there is none.
	At time.Time
	// Count is the number of failures since the last success.
	Count int
	// Kind is the class of the failure, one of the values of the label result
	// of tlspolicyd_sts_fetches_total.
	Kind string
	// Reason is for people, one line, never empty when there is a failure.
	Reason string
}

// Churn counts the changes of an id that came with an equal policy, and those
// from an id whose fetch failed to another one whose fetch failed, since Since.
type Churn struct {
	Count int
	Since time.Time
}

// InForce reports whether the policy is to be applied at now: it was fetched,
// and its max_age is not over. A policy with max_age 0 is in force for the
// questions that were asked before it was fetched.
func (s *STS) InForce(now time.Time) bool {
	if s.Policy == nil {
		return false
	}
	// The monotonic clock mostly says that the policy has not ended; then the
	// wall clock, which takes longer to ask, has no say: see Age.
	age := now.Sub(s.Fetched)
	if age >= s.Policy.MaxAge {
		age = Age(now, s.Fetched)
	}
	return age <= 0 || age < s.Policy.MaxAge
}

// Expires returns when the policy ends if the clock does not jump; zero if
// there is none.
func (s *STS) Expires() time.Time {
	if s.Policy == nil {
		return time.Time{}
	}
	return s.Fetched.Add(s.Policy.MaxAge)
}

// Enforces reports whether mail must not go to hosts outside of the policy at
// now.
func (s *STS) Enforces(now time.Time) bool {
	return s.InForce(now) && s.Policy.Mode == ModeEnforce
}

// Age returns how long ago then was, by the wall clock or by the monotonic
// clock, whichever says less, so that no jump of the wall clock ends a policy.
// It is for the end of a policy's life only: everything else that waits for a
// time goes by the monotonic clock, as now.Sub(then) does.
//
// A time read from a store must be given a monotonic reading first, with
// [Anchor].
func Age(now, then time.Time) time.Duration {
	return min(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// Anchor gives the wall-clock time t a monotonic reading, as if it had been
// read on the clocks of start, a time read in this process.
func Anchor(start, t time.Time) time.Time {
	return start.Add(t.Round(0).Sub(start.Round(0)))
}
