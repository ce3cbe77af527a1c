// Package memstore is a cache.Store in memory: for a daemon without a file,
// and for tests. What it holds is gone when the process ends.
//
// It keeps records encoded, so that what comes back is what a database would
// give. It holds at most Options.MaxBytes, counted as the encoded records and
// what it costs to keep them, and at most Options.MaxFailures records of
// domains of which only failed fetches are known. When it is full, the oldest
// failures give way, then policies that have expired; a policy in force never
// does: then Save returns ErrFull.
//
// Save costs O(log n) for n records, Due O(m log m) for m domains returned.
package memstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// ErrFull is returned by Save when there is no room for another policy.
var ErrFull = errors.New("the store is full")

// What the zero Options mean, and how long what is of no more use is kept.
const (
	DefaultMaxBytes    = 2 << 30
	DefaultMaxFailures = 100_000

	keepExpired = 30 * 24 * time.Hour
	keepFailure = 24 * time.Hour
)

// overhead is about what an entry costs besides its name and record, in bytes:
// the entry, its place in the map and in the orders.
const overhead = 256

// purgeBatch is how many records one Purge removes at most.
const purgeBatch = 1000

// Options are the limits of a store. Zero fields mean the defaults.
type Options struct {
	// MaxBytes is the most that the store holds; 0 means 2 GiB.
	MaxBytes int64
	// MaxFailures is the most domains of which only failed fetches are known;
	// 0 means 100,000.
	MaxFailures int
}

// Store is a cache.Store in memory. It is made by [New].
type Store struct {
	maxBytes    int64
	maxFailures int

	mu       sync.Mutex // guards all that follows
	entries  map[policy.Domain]*entry
	due      order // by refresh
	expiry   order // records with a policy, by its end
	expired  order // those of expiry that have ended, by running time
	failures order // records without one, by the time of the failure
	bytes    int64
	start    time.Time
}

// New returns an empty store.
func New(o Options) *Store {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxFailures == 0 {
		o.MaxFailures = DefaultMaxFailures
	}
	return &Store{
		maxBytes: o.MaxBytes, maxFailures: o.MaxFailures,
		entries: make(map[policy.Domain]*entry),
		due:     order{id: byRefresh}, expiry: order{id: byExpiry},
		expired: order{id: byMark}, failures: order{id: byFailure},
		start: time.Now(),
	}
}

// Load returns the record of domain, or cache.ErrNotFound.
func (s *Store) Load(ctx context.Context, domain policy.Domain) (cache.Record, error) {
	if err := ctx.Err(); err != nil {
		return cache.Record{}, fmt.Errorf("loading the record of %s: %w", domain, err)
	}
	s.mu.Lock()
	e := s.entries[domain]
	s.mu.Unlock()
	if e == nil {
		return cache.Record{}, cache.ErrNotFound
	}
	return cache.DecodeRecord(e.data) // data is never changed
}

// Save keeps r in place of what was kept of its domain.
func (s *Store) Save(ctx context.Context, r cache.Record) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("saving the record of %s: %w", r.Domain, err)
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	e := newEntry(&r, data)
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.entries[r.Domain]
	need := e.size()
	if old != nil {
		need -= old.size()
	}
	if !s.makeRoom(s.now(), need, old) {
		return fmt.Errorf("saving the record of %s: %w", r.Domain, ErrFull)
	}
	s.remove(old)
	s.insert(e)
	if s.failures.len() > s.maxFailures {
		s.remove(s.failures.first())
	}
	return nil
}

// Remove forgets domain.
func (s *Store) Remove(ctx context.Context, domain policy.Domain) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("removing the record of %s: %w", domain, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(s.entries[domain])
	return nil
}

// Due returns the domains of at most n records that are to be refreshed at
// now, in the order of Refresh.
func (s *Store) Due(ctx context.Context, now time.Time, n int) ([]policy.Domain, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("asking what is due: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.due.upTo(now.Unix(), n), nil
}

// Purge removes records that can be of no more use at now: policies that have
// been expired for 30 days of running time, and failures that are older than a
// day. It removes at most 1,000 at a time, and returns how many; zero means
// that it is done. It is meant to be called every few minutes.
//
// Running time is that of the program, whatever the wall clock says: the 30
// days begin with the first Purge that sees a policy expired, and when they
// are over, it is looked at again.
func (s *Store) Purge(ctx context.Context, now time.Time) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("purging: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ran := time.Since(s.start)
	n := 0
	for _, d := range s.expired.upTo(int64(math.Floor((ran - keepExpired).Seconds())), purgeBatch) {
		if s.endExpired(s.entries[d], now) {
			n++
		}
	}
	for _, d := range s.failures.upTo(now.Add(-keepFailure).Unix(), purgeBatch-n) {
		s.remove(s.entries[d])
		n++
	}
	for _, d := range s.expiry.upTo(now.Unix(), purgeBatch) {
		e := s.entries[d]
		s.expiry.drop(e)
		e.mark = int64(ran.Seconds())
		s.expired.add(e)
	}
	return n, nil
}

// endExpired removes a record whose policy has been expired for long, and
// reports whether it has: if the clock was wrong then, the record is as any
// other again.
func (s *Store) endExpired(e *entry, now time.Time) bool {
	if e.end <= now.Unix() {
		s.remove(e)
		return true
	}
	s.expired.drop(e)
	s.expiry.add(e)
	return false
}

// Stats says how much a store holds.
type Stats struct {
	// Policies are the records with a policy, Failures those without.
	Policies, Failures int
	// Bytes is what counts against Options.MaxBytes.
	Bytes int64
}

// Stats returns how much the store holds.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Policies: s.expiry.len() + s.expired.len(), Failures: s.failures.len(), Bytes: s.bytes}
}

// makeRoom drops what may give way at now until need more bytes fit, and
// reports whether they do: old failures, then policies that have expired. If
// they cannot, it drops nothing. The entry keep stays, unless that is nil.
func (s *Store) makeRoom(now time.Time, need int64, keep *entry) bool {
	over := s.bytes + need - s.maxBytes
	if over <= 0 || need <= 0 {
		return true
	}
	var victims []*entry
	for _, from := range []struct {
		order *order
		until int64
		ends  int64
	}{
		{&s.failures, math.MaxInt64, math.MaxInt64},
		{&s.expired, math.MaxInt64, now.Unix()},
		{&s.expiry, now.Unix(), now.Unix()},
	} {
		for _, d := range from.order.upTo(from.until, enough(from.order, over)) {
			if e := s.entries[d]; over > 0 && e != keep && e.end <= from.ends {
				victims = append(victims, e)
				over -= e.size()
			}
		}
	}
	if over > 0 {
		return false
	}
	for _, e := range victims {
		s.remove(e)
	}
	return true
}

// enough is how many entries of an order free size bytes, and one to keep.
func enough(o *order, size int64) int {
	if size <= 0 {
		return 0
	}
	return min(o.len(), int(size/overhead)+2)
}

// now is the earlier of what the wall clock and the monotonic clock say: a clock
// that is set ahead while the program runs ends no policy.
func (s *Store) now() time.Time {
	wall, ran := time.Now().Round(0), s.start.Add(time.Since(s.start)).Round(0)
	if ran.Before(wall) {
		return ran
	}
	return wall
}

func (s *Store) insert(e *entry) {
	s.entries[e.domain] = e
	s.bytes += e.size()
	if e.refresh != 0 {
		s.due.add(e)
	}
	if e.policy {
		s.expiry.add(e)
	} else {
		s.failures.add(e)
	}
}

// remove takes e out of the store; nil is none.
func (s *Store) remove(e *entry) {
	if e == nil {
		return
	}
	delete(s.entries, e.domain)
	s.bytes -= e.size()
	s.due.drop(e)
	s.expiry.drop(e)
	s.expired.drop(e)
	s.failures.drop(e)
}
