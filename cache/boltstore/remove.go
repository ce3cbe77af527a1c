package boltstore

import (
	"context"
	"errors"
	"fmt"

	"tlspolicyd/resolver/policy"
)

// Remove forgets domain, also what of it may yet turn up in a damaged file.
func (s *Store) Remove(ctx context.Context, domain policy.Domain) error {
	if s.never(ctx, domain) {
		return nil
	}
	err := s.write(ctx, func(p *planner) error { return p.remove(domain.String()) })
	if err != nil {
		return fmt.Errorf("removing the record of %s: %w", domain, err)
	}
	return nil
}

// never reports whether there is nothing of domain to remove, and nothing can turn
// up: that needs no file that can be written to.
func (s *Store) never(ctx context.Context, domain policy.Domain) bool {
	err := s.read(ctx, func(st *state) error {
		if st.salvaging() {
			return nil
		}
		_, err := st.load(domain.String())
		return err
	})
	return errors.Is(err, errNone)
}

// removed reports whether a domain was removed while files before f were copied
// into f.
func (f *file) removed(domain string) (bool, error) {
	err := f.read(func(v *view) error {
		_, err := v.buckets[bucketRemoved].find([]byte(domain))
		return err
	})
	return err == nil, ignoreNone(err)
}
