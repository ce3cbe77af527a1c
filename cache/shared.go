package cache

import (
	"context"
	"errors"

	"tlspolicyd/resolver/policy"
)

// ErrUnavailable says that the shared store is known to be out of reach; it was
// not asked.
var ErrUnavailable = errors.New("the shared store is out of reach")

// Shared keeps records for a fleet of relays, beyond the store that each of
// them has. What is in it may be of anybody who can write there: the cache
// believes a record no further than [Cache.weigh] says. That it cannot be
// reached says nothing about any domain, and defers no mail.
//
// A shared store is safe for concurrent use. Load, Save and Remove end within a
// fraction of a second; every call but Next ends at once, with ErrUnavailable,
// while the store is known to be out of reach.
type Shared interface {
	// Load returns the record of domain; the error is ErrNotFound if there is
	// none, and ErrDamaged if there is something else in its place.
	Load(ctx context.Context, domain policy.Domain) (Record, error)

	// Save keeps r, which holds a policy, until that expires; a record of a
	// later fetch stays in its place. A fetch that lies more than 5 minutes in
	// the future, by the clock of the store, counts as the earliest of all. If the policy or its id is another one than before, the
	// other relays are told.
	Save(ctx context.Context, r Record) error

	// Remove forgets domain. To remove what is not there is no error.
	Remove(ctx context.Context, domain policy.Domain) error

	// RemoveAll forgets every domain and returns how many there were.
	RemoveAll(ctx context.Context) (int, error)

	// Next waits for news until ctx ends, and returns its error then. News
	// may be lost: while the store is out of reach, or if nobody asks for
	// them.
	Next(ctx context.Context) (News, error)
}

// News is what the cache hears from a shared store: one of the two.
type News struct {
	// Changed is a domain whose policy, or id, another relay has saved anew.
	Changed policy.Domain
	// Behind says that the store may lack what was saved before: this is the
	// first contact, or it was restarted, emptied or replaced.
	Behind bool
}
