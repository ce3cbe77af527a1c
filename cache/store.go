package cache

import (
	"context"
	"errors"
	"time"

	"tlspolicyd/resolver/policy"
)

// What a store answers when it has no record to give.
var (
	// ErrNotFound: the store holds no record of the domain, and never lost
	// one.
	ErrNotFound = errors.New("no record")
	// ErrDamaged: the store holds, or may have held, a record of the domain
	// that cannot be read. It is not "no record".
	ErrDamaged = errors.New("damaged record")
)

// Store keeps records beyond the memory of the cache.
//
// A store is safe for concurrent use. It keeps the record of each domain that
// was saved last, until that is removed or can never be of use again: a policy
// that has been expired for 30 days, or a failed fetch that is older than a
// day. When it is full, failures and policies that have expired may give way
// earlier; the record of a policy in force never does: the store refuses then.
//
// Every method may fail with an error of the store's own (no space, no
// permission, no connection). Such an error says nothing about the domain. A
// method that fails has changed nothing, and may be called again.
//
// All times in records are wall-clock times, to the second at least.
type Store interface {
	// Load returns the record of domain. The error is ErrNotFound if there is
	// none, and ErrDamaged if it cannot be known whether there is one, or
	// what it says.
	Load(ctx context.Context, domain policy.Domain) (Record, error)

	// Save keeps r in place of what was kept of r.Domain. When it returns
	// nil, r is durable: it is there after a crash of the process or of the
	// machine at any later time. Records that are saved at the same time may
	// share the cost of that.
	Save(ctx context.Context, r Record) error

	// Remove forgets domain, as durably as Save keeps it, also what of it may yet
	// turn up in a store that was damaged. To remove what is not there, and cannot
	// turn up, is no error, also while nothing can be written.
	Remove(ctx context.Context, domain policy.Domain) error

	// Due returns the domains of at most n records whose Refresh is set and
	// not after now, in the order of Refresh. Its cost grows with n, not with
	// the number of records.
	Due(ctx context.Context, now time.Time, n int) ([]policy.Domain, error)

	// Scan returns the records of at most n domains after the given one, in
	// the order of their names; the zero domain is before all. Of a record that
	// cannot be read there is the domain only; see [Record.Unreadable].
	Scan(ctx context.Context, after policy.Domain, n int) ([]Record, error)
}
