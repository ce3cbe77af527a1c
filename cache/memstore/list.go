package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// Scan returns the records of at most n domains after the given one, in the
// order of their names; the zero domain is before all. There is no index of
// names: each call looks at all of them.
func (s *Store) Scan(ctx context.Context, after policy.Domain, n int) ([]cache.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("listing records: %w", err)
	}
	if n <= 0 {
		return nil, nil
	}
	entries := s.firstAfter(after.String(), n)
	records := make([]cache.Record, 0, len(entries))
	for _, e := range entries {
		r, err := cache.DecodeRecord(e.data) // data is never changed
		if err != nil {
			return nil, fmt.Errorf("listing records: %w", err)
		}
		records = append(records, r)
	}
	return records, nil
}

// firstAfter returns the entries of the first n names after one, in order. It
// gathers twice as many and drops the later half whenever they are so many.
func (s *Store) firstAfter(after string, n int) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first []*entry
	last := "" // of the first n, once there are so many
	for domain, e := range s.entries {
		name := domain.String()
		if name <= after || last != "" && name >= last {
			continue
		}
		if first = append(first, e); len(first) >= 2*n {
			first = cut(first, n)
			last = first[n-1].domain.String()
		}
	}
	return cut(first, n)
}

// cut returns the first n entries by name, in order.
func cut(entries []*entry, n int) []*entry {
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.domain.String(), b.domain.String()) })
	return entries[:min(n, len(entries))]
}
