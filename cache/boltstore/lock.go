package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockPoll is how often a lock is tried.
const lockPoll = 50 * time.Millisecond

// lock makes this process the owner of the store at path, by a lock on a file
// beside it: that stays when the store itself is replaced. The lock ends with
// the process.
func lock(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the store: %w", err)
	}
	deadline := time.Now().Add(wait)
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("lock of the store: %w", err)
		}
		if !time.Now().Before(deadline) {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("%w by another process: %s", ErrLocked, path)
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("lock of the store: %w", ctx.Err())
		}
	}
}

func (s *Store) unlock() {
	if s.lock != nil {
		_ = s.lock.Close() // gives the lock back
		s.lock = nil
	}
}
