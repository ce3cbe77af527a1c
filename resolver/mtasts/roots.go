package mtasts

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// rootsLife is how long root certificates are used before they are read
	// again.
	rootsLife = 24 * time.Hour
	// rootsCheck is the time between two checks whether a file has changed.
	rootsCheck = time.Minute
)

// errNoRoots: no file of root certificates could be read since the start.
var errNoRoots = errors.New("none could be read")

// roots are the root certificates that policy hosts are verified against. They
// are read from files here, since package x509 reads those of the system once
// in the life of a process.
type roots struct {
	source  rootSource
	log     *zap.Logger
	current atomic.Pointer[rootSet]
	// reading is held, by one element, while the files are read.
	reading chan struct{}
}

// rootSet is what was read last. It is never changed.
type rootSet struct {
	// pool is nil until a first reading succeeds.
	pool *x509.CertPool
	// files tells when a file has changed.
	files fileStamps
	// read is when the files were read, checked when they were looked at.
	read, checked time.Time
}

// newRoots reads the root certificates. With a file that is named it fails if
// that cannot be read; without, that is logged.
func newRoots(caFile string, log *zap.Logger) (*roots, error) {
	r := &roots{source: systemRoots(os.Getenv), log: log, reading: make(chan struct{}, 1)}
	if caFile != "" {
		r.source = rootSource{files: []string{caFile}}
	}
	r.current.Store(&rootSet{})
	err := r.reload(time.Now())
	if err != nil && caFile != "" {
		return nil, err
	}
	if err != nil {
		log.Error("no root certificates of the system; no policy can be fetched until there are", zap.Error(err))
	}
	return r, nil
}

// get returns the root certificates. If they are due to be read again, the
// caller that finds it out reads them, and all others go on with the old ones.
func (r *roots) get(now time.Time) (*x509.CertPool, error) {
	set := r.current.Load()
	if now.Sub(set.checked) >= rootsCheck {
		select {
		case r.reading <- struct{}{}:
			set = r.check(now)
			<-r.reading
		default:
		}
	}
	if set.pool == nil {
		return nil, errNoRoots
	}
	return set.pool, nil
}

// check reads the files if they have changed or were read long ago.
func (r *roots) check(now time.Time) *rootSet {
	set := *r.current.Load()
	set.checked = now
	if now.Sub(set.read) < rootsLife && set.files.equal(r.source.stamps()) {
		r.current.Store(&set)
		return &set
	}
	if err := r.load(now); err != nil {
		r.log.Error("root certificates cannot be read; the old ones stay in use", zap.Error(err))
	}
	return r.current.Load()
}

// reload reads the files now.
func (r *roots) reload(now time.Time) error {
	r.reading <- struct{}{}
	defer func() { <-r.reading }()
	return r.load(now)
}

// load reads the files. If that fails, it is not tried again before one of
// them changes or rootsLife is over. The caller holds reading.
func (r *roots) load(now time.Time) error {
	next := rootSet{pool: r.current.Load().pool, files: r.source.stamps(), read: now, checked: now}
	pool, err := r.source.pool()
	if err == nil {
		next.pool = pool
	}
	r.current.Store(&next)
	if err != nil {
		return fmt.Errorf("reading root certificates: %w", err)
	}
	return nil
}
