package dnsclient

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// source knows which servers to ask: a fixed list, or those of a resolv.conf
// that it follows.
type source struct {
	log   *zap.Logger
	start time.Time
	pool  atomic.Pointer[pool]
	// next is when the file is looked at again, counted from start.
	next atomic.Int64
	// busy is held by whoever looks at the file, and guards what is below.
	// Nobody waits for it: the others go on with the servers known.
	busy atomic.Bool
	file *resolvFile
	// failing says that the last look failed, which was logged.
	failing bool
}

// fixed makes a source of a list that never changes.
func fixed(list []endpoint, log *zap.Logger) *source {
	s := &source{log: log, start: time.Now()}
	s.pool.Store(newPool(list, nil))
	return s
}

// followed makes a source of the servers of a resolv.conf. A file that cannot
// be read stands for the servers of this host until it can.
func followed(file *resolvFile, log *zap.Logger) *source {
	s := &source{log: log, start: time.Now(), file: file}
	list, err := file.read()
	if err != nil {
		list = file.local()
		s.failed(err)
	}
	s.pool.Store(newPool(list, nil))
	s.next.Store(int64(lookEvery))
	return s
}

// current returns the servers to ask now.
func (s *source) current() *pool {
	if s.file == nil {
		return s.pool.Load()
	}
	now := int64(time.Since(s.start))
	if now >= s.next.Load() && s.busy.CompareAndSwap(false, true) {
		s.next.Store(now + int64(lookEvery))
		s.look()
		s.busy.Store(false)
	}
	return s.pool.Load()
}

// look reads the file again if it changed. What cannot be read changes
// nothing.
func (s *source) look() {
	changed, err := s.file.changed()
	if err != nil {
		s.failed(err)
		return
	}
	if !changed {
		return
	}
	list, err := s.file.read()
	if err != nil {
		s.failed(err)
		return
	}
	s.failing = false
	old := s.pool.Load()
	if old.same(list) {
		return
	}
	s.pool.Store(newPool(list, old))
	s.log.Info("DNS servers changed", zap.String("file", s.file.path), zap.Strings("servers", addresses(list)))
}

// failed logs the first of several failures.
func (s *source) failed(err error) {
	if s.failing || errors.Is(err, errUnsettled) {
		return
	}
	s.failing = true
	if errors.Is(err, fs.ErrNotExist) {
		s.log.Info("no resolv.conf, the DNS servers stay what they are", zap.String("file", s.file.path))
		return
	}
	s.log.Warn("resolv.conf cannot be read, the DNS servers stay what they are", zap.String("file", s.file.path), zap.Error(err))
}

func addresses(list []endpoint) []string {
	var s []string
	for _, e := range list {
		s = append(s, e.addr.String())
	}
	return s
}
