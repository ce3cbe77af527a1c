package cache

import (
	"context"
	"sync"
	"time"
)

// slots is a pool of as many places as the channel has room for.
type slots chan struct{}

// acquire takes a place. It waits for one until a time, or until ctx ends, and
// reports whether it got one.
func (s slots) acquire(ctx context.Context, until time.Time) bool {
	if s.tryAcquire() {
		return true
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case s <- struct{}{}:
		return true
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}

func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s slots) release() { <-s }

// free returns the number of places that nobody has.
func (s slots) free() int { return cap(s) - len(s) }

// logInterval is the least time between two lines of a kind that would
// otherwise come with every question.
const logInterval = time.Minute

// limiter lets one line of each kind through per logInterval. The kinds are
// constants. The zero value is ready.
type limiter struct {
	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func (l *limiter) allow(now time.Time, kind string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[kind]; ok && now.Sub(last) < logInterval {
		return false
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[kind] = now
	return true
}
