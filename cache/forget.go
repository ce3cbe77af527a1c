package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

const (
	// purgeAtOnce is how many domains a purge of all forgets at a time, so
	// that they share the cost of making that durable.
	purgeAtOnce = 256
	// purgePage is how many records it reads at a time.
	purgePage = 1000
)

// PurgeAll forgets every domain that was known when it began, here and in the
// shared store, and returns how many were known here. At the first error, or
// when ctx ends, it stops; what it forgot until then stays forgotten. An error
// of the shared store stops nothing; it is returned at the end.
func (c *Cache) PurgeAll(ctx context.Context) (int, error) {
	shared := c.forgetAllShared(ctx)
	n, err := c.purgeEach(ctx, c.inMemory())
	for after := (policy.Domain{}); err == nil; {
		records, scanErr := c.store.Scan(ctx, after, purgePage)
		if scanErr != nil || len(records) == 0 {
			err = scanErr
			break
		}
		domains := make([]policy.Domain, len(records))
		for i := range records {
			domains[i] = records[i].Domain
		}
		after = domains[len(domains)-1]
		var more int
		more, err = c.purgeEach(ctx, domains)
		n += more
	}
	err = errors.Join(err, shared)
	c.log.Info("everything was purged on command", zap.Int("domains", n), zap.Error(err))
	if err != nil {
		return n, fmt.Errorf("purging all: %w", err)
	}
	return n, nil
}

func (c *Cache) forgetAllShared(ctx context.Context) error {
	if c.shared == nil {
		return nil
	}
	if _, err := c.shared.RemoveAll(ctx); err != nil {
		if ctx.Err() == nil {
			c.sharedFailed(opRemove, err)
		}
		return fmt.Errorf("%w: %w", ErrStillShared, err)
	}
	return nil
}

// purgeEach purges domains, some at a time, until one cannot be, and returns
// how many were known.
func (c *Cache) purgeEach(ctx context.Context, domains []policy.Domain) (int, error) {
	var (
		mu     sync.Mutex // guards n and failed
		n      int
		failed error
		wg     sync.WaitGroup
	)
	places := make(slots, purgeAtOnce)
	for _, domain := range domains {
		places <- struct{}{}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			defer places.release()
			known, err := c.purge(ctx, domain)
			mu.Lock()
			defer mu.Unlock()
			if known {
				n++
			}
			if failed == nil && !errors.Is(err, ErrStillShared) {
				failed = err
			}
		})
	}
	wg.Wait()
	return n, failed
}

// inMemory returns the domains of which there is anything outside of the store.
func (c *Cache) inMemory() []policy.Domain {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.memory.domains()
	all = slices.AppendSeq(all, maps.Keys(c.flights))
	all = slices.AppendSeq(all, maps.Keys(c.unwritten))
	all = slices.AppendSeq(all, maps.Keys(c.held))
	for hop := range c.lookingUp {
		all = append(all, hop.Domain)
	}
	slices.SortFunc(all, func(a, b policy.Domain) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}

// forget is the flight of [Cache.Purge]. The flights before it have landed, and
// none begins before it has, so nothing that was known comes back.
func (c *Cache) forget(f *flight) {
	ctx, cancel := context.WithTimeout(f.ctx, storeTimeout)
	defer cancel()
	_, err := c.store.Load(ctx, f.domain)
	stored := !errors.Is(err, ErrNotFound)
	// Also what cannot be read, and what is not there yet: a store that was damaged
	// may find a record later.
	if err := c.store.Remove(ctx, f.domain); err != nil {
		if f.ctx.Err() == nil {
			c.storeFailed(opRemove, "a record could not be removed; nothing was purged", f.domain, err)
		}
		f.end(outcome{err: err})
		return
	}
	known := c.drop(f.domain) || stored
	f.end(outcome{known: known, err: c.forgetShared(ctx, f)})
}

// forgetShared removes a domain from the shared store. What other relays have of
// it in stores of their own stays there.
func (c *Cache) forgetShared(ctx context.Context, f *flight) error {
	if c.shared == nil {
		return nil
	}
	c.outbox.withdraw(f.domain)
	err := c.shared.Remove(ctx, f.domain)
	if err == nil {
		return nil
	}
	if f.ctx.Err() == nil {
		c.sharedFailed(opRemove, err)
	}
	c.outbox.add(f.domain, errandRemove)
	return fmt.Errorf("%w: %w", ErrStillShared, err)
}

// drop forgets what there is of a domain outside of the store, and reports
// whether there was anything.
func (c *Cache) drop(domain policy.Domain) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.unwritten[domain]
	known = c.memory.remove(domain) || known
	c.dropUnwritten(domain)
	delete(c.held, domain)
	delete(c.expiring, domain)
	for hop, f := range c.lookingUp {
		if hop.Domain == domain {
			f.forgotten = true
		}
	}
	return known
}

// remove forgets a domain and reports whether it was there.
func (m *memory) remove(domain policy.Domain) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	policies, absences := m.policies.Remove(domain), m.absences.Remove(domain)
	return policies || absences
}

// domains returns all that there is something of.
func (m *memory) domains() []policy.Domain {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Concat(m.policies.Keys(), m.absences.Keys())
}
