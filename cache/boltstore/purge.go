package boltstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// How long what is of no more use is kept, and how much one Purge does.
const (
	keepExpired = 30 * 24 * time.Hour
	keepFailure = 24 * time.Hour
	purgeBatch  = 1000
)

// Purge removes records that can be of no more use at now: policies that have
// been expired for 30 days of running time, and failures that are older than a
// day. It removes at most 1,000 at a time, and returns how many; zero means
// that it is done. It is meant to be called every few minutes.
//
// Running time is that of the program, whatever the wall clock says: the 30
// days begin with the first Purge that sees a policy expired, and when they
// are over, it is looked at again. It is written down every ten minutes; what
// passed since is lost when the program ends.
func (s *Store) Purge(ctx context.Context, now time.Time) (int, error) {
	ran := s.clock.total()
	var failed, ended, over []string
	err := s.read(ctx, func(st *state) error {
		return st.view(func(v *view) error {
			var err [3]error
			over, err[0] = v.keysUpTo(bucketExpired, "", int64((ran - keepExpired).Seconds()), purgeBatch)
			failed, err[1] = v.keysUpTo(bucketFailed, "", now.Add(-keepFailure).Unix(), purgeBatch-len(over))
			ended, err[2] = v.keysUpTo(bucketExpiry, "", now.Unix(), purgeBatch)
			return errors.Join(err[:]...)
		})
	})
	if err != nil {
		return 0, fmt.Errorf("purging: %w", err)
	}
	if ran < keepExpired {
		over = nil
	}
	n := 0
	unmade := s.state.Load().unmade()
	err = s.write(ctx, func(p *planner) error {
		var err error
		n, err = p.purge(now, ran, failed, ended, over)
		return err
	})
	if err != nil && !unmade { // that is logged, and there is nothing to purge
		return 0, fmt.Errorf("purging: %w", err)
	}
	return n, nil
}

// purge plans a Purge and returns how many records it removes.
func (p *planner) purge(now time.Time, ran time.Duration, failed, ended, over []string) (int, error) {
	before := p.totals.records
	for _, group := range []struct {
		bucket string
		keys   []string
		do     func(k indexKey, e *entry)
	}{
		{bucketExpired, over, func(_ indexKey, e *entry) { p.endExpired(now, e) }},
		{bucketFailed, failed, func(_ indexKey, e *entry) { p.replace(e.domain, e, nil) }},
		{bucketExpiry, ended, func(k indexKey, e *entry) { p.markExpired(ran, k, e) }},
	} {
		for _, key := range group.keys {
			if err := p.follow(indexKey{group.bucket, key}, group.do); err != nil {
				return 0, err
			}
		}
	}
	p.keepClock(ran)
	return int(before - p.totals.records), nil
}

// follow removes an entry of an index and does something about the record that
// it leads to, if it does lead to one.
func (p *planner) follow(k indexKey, do func(k indexKey, e *entry)) error {
	value, err := p.get(k.bucket, k.key)
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return err
	}
	p.drop(k)
	domain, ok := keyDomain(k.key)
	if !ok {
		return nil
	}
	e, err := p.load(domain.String())
	if err != nil || e == nil || !e.leads(k, value) {
		return err
	}
	do(k, e)
	return nil
}

// markExpired notes the running time at which a policy was seen expired.
func (p *planner) markExpired(ran time.Duration, k indexKey, e *entry) {
	p.put(bucketExpired, string(number(int64(ran.Seconds())))+e.domain, []byte(k.key)[:8])
}

// endExpired removes a record whose policy has been expired for long. If the
// clock was wrong then, and it has not, the record is as any other again.
func (p *planner) endExpired(now time.Time, e *entry) {
	if !e.damaged && e.record.Expires.After(now) {
		p.put(bucketExpiry, timeKey(e.record.Expires, e.domain), nil)
		return
	}
	p.replace(e.domain, e, nil)
}

// leads reports whether the entry k of an index, with its value, belongs to e.
// To a record that cannot be read any may.
func (e *entry) leads(k indexKey, value []byte) bool {
	if e.damaged {
		return true
	}
	if k.bucket == bucketExpired {
		return e.hasPolicy() && readNumber(value) == max(e.record.Expires.Unix(), 0)
	}
	for _, own := range e.index() {
		if own == k {
			return true
		}
	}
	return false
}

// runningTime is how long programs have had the store open, by the monotonic
// clock.
type runningTime struct {
	mu    sync.Mutex // guards what follows
	ran   time.Duration
	since time.Time
}

// clockStep is how far the clock goes before it is written.
const clockStep = 10 * time.Minute

// newRunningTime goes on from where the clock in f stands.
func newRunningTime(f *file) *runningTime {
	ran := min(readNumber(f.about(metaClock)), 1<<32) // without a clock it begins at zero
	return &runningTime{ran: time.Duration(ran) * time.Second, since: time.Now()}
}

func (c *runningTime) total() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.ran += now.Sub(c.since)
	c.since = now
	return c.ran
}

// keepClock writes the running time if enough has passed.
func (p *planner) keepClock(ran time.Duration) {
	b, err := p.get(bucketMeta, metaClock)
	if err == nil && ran-time.Duration(readNumber(b))*time.Second < clockStep {
		return
	}
	p.put(bucketMeta, metaClock, number(int64(ran.Seconds())))
}
