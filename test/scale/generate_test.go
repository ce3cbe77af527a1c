//go:build e2e

package scale_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/boltstore"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/world"
)

const (
	// zone holds all domains, and id is that of every policy.
	zone, id = "scale.test", "20260101T000000"
	// maxAge is a usual one: a week, in seconds.
	maxAge = 604800
	// writers save at the same time, so that commits are shared.
	writers = 1024
)

// domain is the name of a domain. Numbers that follow each other do not make
// names that do.
func domain(i int) string {
	return fmt.Sprintf("%08x.%s", uint32(i)*2654435761, zone)
}

// text is the policy of a domain: the size of those that large hosters publish.
func text(domain string) string {
	return world.Enforce(maxAge, "mx1."+domain, "mx2."+domain, "mx3."+domain, "*.mail."+domain)
}

// reply is what the policy of a domain makes.
func reply(domain string) string {
	return world.Secure("mx1."+domain, "mx2."+domain, "mx3."+domain, ".mail."+domain)
}

// generate makes a store of n policies that were fetched during the last day
// and are to be refreshed during the next. Those below due are to be refreshed
// now.
func generate(t *testing.T, path string, n, due int) {
	t.Helper()
	s, err := boltstore.Open(t.Context(), boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var next atomic.Int64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := save(t.Context(), s, now, i, due); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writing.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func save(ctx context.Context, s *boltstore.Store, now time.Time, i, due int) error {
	d, err := policy.ParseDomain(domain(i))
	if err != nil {
		return err
	}
	const day = 24 * time.Hour
	// Nothing comes due while something is measured, but what is to.
	refresh := now.Add(time.Hour + rand.N(day-time.Hour))
	if i < due {
		refresh = now.Add(-time.Minute)
	}
	fetched := refresh.Add(-day)
	return s.Save(ctx, cache.Record{
		Domain: d, Text: text(d.String()), ID: id,
		Fetched: fetched, Expires: fetched.Add(maxAge * time.Second),
		Refresh: refresh, LastUse: now,
	})
}
