package boltstore

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// sayAgain is how often it is logged that there is no room for a file.
const sayAgain = time.Minute

const (
	unmadeMessage = "there is no space for the file of the store: " +
		"policies are kept in memory only, and a restart would lose them"
	madeMessage = "there is space again: the file of the store is made"
)

// errUnmade: there was no file, and there is no space for one. Then the store is
// one that holds nothing and takes nothing, until there is.
var errUnmade = errors.New("no file of the store can be made")

// noSpace reports whether err means that the disk, or a quota, is full.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// unmade reports whether the store has no file, and never had one.
func (st *state) unmade() bool { return st.cur == nil && len(st.old) == 0 && !st.closed }

// present reports whether there is a file, or one on its way to its name.
func (s *Store) present() bool {
	for _, path := range []string{s.o.Path, s.o.Path + newSuffix} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// startUnmade begins without a file. Whoever writes tries to make it; see
// [Store.makeLate].
func (s *Store) startUnmade(err error) {
	now := time.Now()
	s.clock = &runningTime{since: now}
	s.retryAt, s.lastError = now.Add(retryAfter), err
	s.sayUnmade(now, err)
}

// makeLate makes the file for which there was no space. The turn is ours.
func (s *Store) makeLate() error {
	err := s.lockLate()
	if err == nil {
		err = s.makeIfMissing()
	}
	var f *file
	if err == nil {
		f, err = openWritable(&s.o)
	}
	if err != nil {
		s.sayUnmade(time.Now(), err)
		return err
	}
	s.o.Log.Info(madeMessage)
	s.goOn(f)
	return nil
}

// sayUnmade logs the error now and then.
func (s *Store) sayUnmade(now time.Time, err error) {
	if now.Before(s.sayAt) {
		return
	}
	s.sayAt = now.Add(sayAgain)
	s.o.Log.Error(unmadeMessage, zap.String("file", s.o.Path), zap.Error(err))
}

// lockLate takes the lock if the store was opened without it.
func (s *Store) lockLate() (err error) {
	if s.lock == nil {
		s.lock, err = lock(s.life, s.o.Path, lockPoll)
	}
	return err
}

// openWritable opens the file for reading and writing.
func openWritable(o *Options) (*file, error) {
	f, err := openFile(o.Path)
	if err == nil {
		err = f.openWriter(o)
	}
	if err != nil {
		if f != nil {
			f.close()
		}
		return nil, err
	}
	return f, nil
}

// unmadeError marks what kept a file from being made for want of space.
func unmadeError(err error) error {
	if noSpace(err) {
		return fmt.Errorf("%w: %w", errUnmade, err)
	}
	return err
}
