package boltstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// step is how many records are looked at before writers get their turn.
const step = 256

// Due returns the domains of at most n records that are to be refreshed at
// now, in the order of Refresh. It reads two places of the file for each.
func (s *Store) Due(ctx context.Context, now time.Time, n int) ([]policy.Domain, error) {
	var due []policy.Domain
	var stale []string
	for from := ""; len(due) < n; {
		want := min(n-len(due), step)
		var keys []string
		err := s.read(ctx, func(st *state) error {
			return st.view(func(v *view) (err error) {
				keys, err = v.keysUpTo(bucketDue, from, now.Unix(), want)
				return err
			})
		})
		if err == nil {
			due, stale, err = s.follow(ctx, keys, due, stale)
		}
		if err != nil {
			return nil, fmt.Errorf("asking what is due: %w", err)
		}
		if len(keys) < want {
			break
		}
		from = keys[len(keys)-1] + "\x00"
	}
	s.tidy(ctx, stale)
	return due, nil
}

// view calls fn with what is in the current file, if there is one yet.
func (st *state) view(fn func(v *view) error) error {
	if st.unmade() {
		return nil
	}
	if st.cur == nil {
		return errNoFile
	}
	return st.cur.read(fn)
}

// errNoFile: the store is damaged, and no new file could be begun.
var errNoFile = errors.New("the store is damaged, and there is no new one yet")

// errUncopied: what is in the current file is not all that there is.
var errUncopied = errors.New("the store was damaged, and not all that can be read of it is copied yet; try again later")

// keysUpTo returns at most n keys of an index, from from on, that are not
// after limit.
func (v *view) keysUpTo(bucket, from string, limit int64, n int) ([]string, error) {
	if n <= 0 || limit < 0 {
		return nil, nil
	}
	var keys []string
	err := v.buckets[bucket].walk([]byte(from), func(key, _ []byte) bool {
		if readNumber(key) > limit {
			return false
		}
		keys = append(keys, string(key))
		return len(keys) < n
	})
	return keys, err
}

// follow adds the domains that keys of bucketDue lead to to due. Keys that
// lead nowhere are added to stale.
func (s *Store) follow(ctx context.Context, keys []string, due []policy.Domain, stale []string) ([]policy.Domain, []string, error) {
	for _, k := range keys {
		domain, ok := keyDomain(k)
		err := s.read(ctx, func(st *state) error {
			return st.view(func(v *view) error {
				data, err := v.buckets[bucketRecords].find([]byte(domain.String()))
				ok = ok && err == nil && newEntry(domain.String(), data).leads(indexKey{bucketDue, k}, nil)
				if errors.Is(err, errNone) {
					return nil
				}
				return err
			})
		})
		if err != nil {
			return nil, nil, err
		}
		if ok {
			due = append(due, domain)
		} else {
			stale = append(stale, k)
		}
	}
	return due, stale, nil
}

// tidy removes keys of bucketDue that lead nowhere: the record that they
// belonged to could not be read when it was replaced. They do no harm but to
// be found again and again, so it does not matter if that fails.
func (s *Store) tidy(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	_ = s.write(ctx, func(p *planner) error {
		for _, k := range keys {
			if err := p.tidy(indexKey{bucketDue, k}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *planner) tidy(k indexKey) error {
	if _, err := p.get(k.bucket, k.key); err != nil {
		return ignoreNone(err)
	}
	domain, _ := keyDomain(k.key)
	e, err := p.load(domain.String())
	if err == nil && (e == nil || !e.leads(k, nil)) {
		p.drop(k)
	}
	return err
}

func ignoreNone(err error) error {
	if errors.Is(err, errNone) {
		return nil
	}
	return err
}

// Scan returns the records of at most n domains after the given one, in the
// order of their names; the zero domain is before all. Of a record that cannot be
// read there is the domain only. Before what can be read of a damaged file is
// copied, it fails.
func (s *Store) Scan(ctx context.Context, after policy.Domain, n int) ([]cache.Record, error) {
	var records []cache.Record
	for from := after.String(); len(records) < n; {
		var found []cache.Record
		var last string
		err := s.read(ctx, func(st *state) error {
			if len(st.old) > 0 {
				return errUncopied
			}
			return st.view(func(v *view) (err error) {
				found, last, err = v.scan(from, n-len(records))
				return err
			})
		})
		if err != nil {
			return nil, fmt.Errorf("listing records: %w", err)
		}
		if len(found) > 0 && found[0].Domain == after {
			found = found[1:]
		}
		records = append(records, found...)
		if last == "" {
			break
		}
		from = last + "\x00"
	}
	return records, nil
}

// scan returns at most n records from from on, of a few that it looks at, and
// the last domain that it looked at.
func (v *view) scan(from string, n int) (records []cache.Record, last string, err error) {
	looked := 0
	err = v.buckets[bucketRecords].walk([]byte(from), func(key, data []byte) bool {
		last = string(key)
		if r := newEntry(last, data).listed(); r.Domain != (policy.Domain{}) {
			records = append(records, r)
		}
		looked++
		return looked < step && len(records) < n
	})
	return records, last, err
}

// listed returns the record as Scan has it; it is empty if not even its domain
// is one.
func (e *entry) listed() cache.Record {
	if !e.damaged {
		return e.record
	}
	domain, err := policy.ParseDomain(e.domain)
	if err != nil || domain.String() != e.domain {
		return cache.Record{}
	}
	return cache.Record{Domain: domain}
}

// Stats says how much is in a store.
type Stats struct {
	// Records are all, Failures those of domains of which only failed fetches
	// are known.
	Records, Failures int64
	// Bytes is the size of the encoded records, Used that of the file without
	// free pages, File that of the file.
	Bytes, Used, File int64
	// ReadOnly says that the file cannot be written to at present.
	ReadOnly bool
	// Damaged is the number of damaged files that are being copied.
	Damaged int
}

// Stats returns how much is in the store.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	err := s.read(ctx, func(state *state) error {
		st.ReadOnly = state.unmade()
		return state.view(func(v *view) error {
			info, err := state.cur.r.Stat()
			if err != nil {
				return fmt.Errorf("size of the store: %w", err)
			}
			st = Stats{
				Records: v.totals.records, Failures: v.totals.failures, Bytes: v.totals.bytes,
				Used: v.used(), File: info.Size(),
				ReadOnly: !state.cur.writing.Load(), Damaged: len(state.old),
			}
			return nil
		})
	})
	return st, err
}

// used is how many bytes of the file are in use.
func (v *view) used() int64 { return int64(v.high-uint64(v.free.count)) * int64(v.size) }
