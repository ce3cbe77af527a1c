package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// maxBatch is how many jobs share one commit at most. A job changes few keys,
// except those that copy or purge, which bound themselves.
const maxBatch = 256

// copyFill is how much of a page is filled by a copy: as much as when domains come
// in any order. By itself bbolt leaves half of it free, and a copy would take more
// space than what is copied. In full pages no record could grow without a page
// more, and a full store would have no room for all of those.
const copyFill = 0.7

// job is something to be written.
type job struct {
	plan func(p *planner) error
	err  error
	done chan struct{} // closed when err is the outcome
}

// queue is the jobs that wait for somebody who writes them.
type queue struct {
	mu   sync.Mutex // guards jobs
	jobs []*job
}

func (q *queue) add(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, j)
}

// take takes the first jobs out.
func (q *queue) take() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.jobs), maxBatch)
	batch := q.jobs[:n:n]
	if q.jobs = q.jobs[n:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
	return batch
}

// cancel takes j out, and reports whether it was still there.
func (q *queue) cancel(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.jobs, j)
	if i < 0 {
		return false
	}
	q.jobs = slices.Delete(q.jobs, i, i+1)
	return true
}

// write has plan committed, together with all that wait for it at the same
// time: whoever gets the turn writes everything that is queued, so that one
// alone does not wait, and many cost one sync. When ctx ends before the job
// was taken, nothing is written; after that, the outcome is waited for, since
// nobody could say what it was.
func (s *Store) write(ctx context.Context, plan func(p *planner) error) error {
	j := &job{plan: plan, done: make(chan struct{})}
	s.queue.add(j)
	for {
		select {
		case <-j.done:
			return j.err
		case s.turn <- struct{}{}:
			s.lead(j)
			<-s.turn
		case <-ctx.Done():
			if s.queue.cancel(j) {
				return ctx.Err()
			}
			<-j.done
			return j.err
		}
	}
}

// lead writes what is queued, unless the leader's own job was done meanwhile.
func (s *Store) lead(own *job) {
	select {
	case <-own.done:
		return
	default:
	}
	batch := s.queue.take()
	s.commit(batch)
	for _, j := range batch {
		close(j.done)
	}
}

// commit writes jobs; the turn is ours. If all of them together are too much
// for the file, each is tried alone.
func (s *Store) commit(batch []*job) {
	if len(batch) == 0 {
		return
	}
	err := s.commitTogether(batch)
	if errors.Is(err, ErrFull) && len(batch) > 1 {
		for _, j := range batch {
			j.err = nil
			s.commit([]*job{j})
		}
		return
	}
	for _, j := range batch {
		if j.err == nil {
			j.err = err
		}
	}
}

// commitTogether writes jobs in one commit. It sets the error of those that
// fail by themselves, and returns one that concerns all.
func (s *Store) commitTogether(batch []*job) error {
	for try := 0; ; try++ {
		f, err := s.writer()
		if err != nil {
			return err
		}
		err = f.update(&s.o, s.state.Load().salvaging(), func(p *planner) error {
			for _, j := range batch {
				if j.err = j.plan(p); errors.Is(j.err, errDamage) {
					return j.err
				}
			}
			return nil
		})
		if !errors.Is(err, errDamage) || try > 0 {
			return err
		}
		if err := s.setAside(f, err); err != nil {
			return err
		}
	}
}

// update has fn plan changes and commits them.
func (f *file) update(o *Options, salvaging bool, fn func(p *planner) error) error {
	// Who reads pages that the last commit freed must be done first.
	f.use.wait()
	p := newPlanner(f.view.Load().keeping(), o, salvaging)
	if err := fn(p); err != nil {
		return err
	}
	if !p.finish() {
		return nil
	}
	if err := p.check(); err != nil {
		return err
	}
	err := guard(func() error { return f.apply(p) })
	if errors.Is(err, errDamage) {
		f.abandonWriter()
		return err
	}
	f.unsure = err != nil
	if errors.Is(err, bolterrors.ErrMaxSizeReached) {
		err = ErrFull
	}
	if again := f.refresh(); err == nil {
		err = again
	}
	return err
}

// apply makes the edits of p in a transaction of bbolt.
func (f *file) apply(p *planner) error {
	keys := make([]indexKey, 0, len(p.edits))
	for k := range p.edits {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b indexKey) int {
		return cmp.Or(strings.Compare(a.bucket, b.bucket), strings.Compare(a.key, b.key))
	})
	return f.db.Update(func(tx *bolt.Tx) error {
		if p.copying {
			tx.Bucket([]byte(bucketRecords)).FillPercent = copyFill
		}
		for _, k := range keys {
			if err := applyEdit(tx.Bucket([]byte(k.bucket)), k.key, p.edits[k]); err != nil {
				return fmt.Errorf("writing to bucket %q: %w", k.bucket, err)
			}
		}
		// It says which root is that of the last commit; see [pager.lastRoot].
		_, err := tx.Bucket([]byte(bucketMeta)).NextSequence()
		return err
	})
}

func applyEdit(b *bolt.Bucket, key string, e edit) error {
	if e == nil {
		return b.Delete([]byte(key))
	}
	return b.Put([]byte(key), e)
}
