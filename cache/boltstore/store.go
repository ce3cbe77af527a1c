// Package boltstore is a cache.Store in a file: a bbolt database of which one
// process at a time is the owner.
//
// A record is on the disk when Save returns. Saves at the same time share one
// commit; a lone one does not wait for company. Load, Due and Scan read pages
// of the file through the page cache and keep nothing in memory.
//
// What is an error and what is damage: a full disk, a read-only file system, a
// missing permission or an I/O error while writing fail the call, the file
// stays as it is, reading goes on, and the next Save tries again (once a
// second, where the file cannot even be opened for writing). Where there is no
// file yet and no space for one, the store is empty until there is. A file that
// bbolt would not have written, a page that cannot be read, or a panic of
// bbolt is damage: a new file is begun at once, everything that can be read is
// copied into it in the background, and the old file stays beside it, named
// Path.damaged-<time>, of which the three newest are kept. Until the copy is
// complete, but for 60 seconds at most, a domain that is not found, or only in a
// file older than one that cannot be read, is cache.ErrDamaged, and where
// something could not be read, for the whole 60 seconds, also when the program is
// started again meanwhile. A single record whose checksum does not fit is
// cache.ErrDamaged for its domain alone, until it is saved again.
//
// Limits: Options.MaxBytes of file, of which a third is left for replacing
// records; a record of 256 KiB; 100,000 records of failures only. In a full
// store failures give way to new domains, then policies that have expired, and
// never a policy in force. For the time of a copy both files take space.
//
// Not here: what a record means, and when it is refreshed.
package boltstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// Why a store cannot be opened.
var (
	// ErrLocked: another process owns the file.
	ErrLocked = errors.New("the store is in use")
	// ErrNewer: a newer program has written the file.
	ErrNewer = errors.New("the store was written by a newer program")
	// ErrForeign: the file belongs to another program, or is no file.
	ErrForeign = errors.New("not a store of this program")
)

// Why a store does not do what it is asked.
var (
	// ErrFull: there is no room for a domain that is not in the store, and
	// nothing that may give way.
	ErrFull = errors.New("the store is full")
	// ErrTooLarge: the record is larger than any that makes sense.
	ErrTooLarge = errors.New("the record is too large")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// What the zero Options mean, and limits that are not to be chosen.
const (
	DefaultMaxBytes    = 2 << 30
	DefaultMaxFailures = 100_000
	DefaultLockWait    = time.Second

	maxRecord  = 256 << 10
	retryAfter = time.Second // between attempts to open a file for writing
)

// Options say where the store is and how large it may be. Zero fields mean the
// defaults; there is no default for Path.
type Options struct {
	// Path is the file. Beside it are Path.lock and, for a while, Path.new and
	// Path.damaged-<time>. Its directory is made if there is none.
	Path string
	// MaxBytes is the most that the file may grow to; 0 means 2 GiB. On a
	// machine of 32 bits it is 1 GiB at most.
	MaxBytes int64
	// MaxFailures is the most domains of which only failed fetches are known;
	// 0 means 100,000.
	MaxFailures int
	// LockWait is how long to wait for another process to let go of the file;
	// 0 means a second.
	LockWait time.Duration
	// Log is told of damage and of what was done about it; nil means nobody.
	Log *zap.Logger

	// openFile opens the file that bbolt writes to; nil means os.OpenFile.
	openFile func(path string, flag int, mode os.FileMode) (*os.File, error)
	// opened is when the store was opened.
	opened time.Time
}

// now is the earlier of what the wall clock and the monotonic clock say: a clock
// that is set ahead while the program runs ends no policy.
func (o *Options) now() time.Time {
	wall, ran := time.Now().Round(0), o.opened.Add(time.Since(o.opened)).Round(0)
	if ran.Before(wall) {
		return ran
	}
	return wall
}

func (o *Options) setDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	// A file is mapped into memory as a whole; 32 bits have room for 1 GiB.
	o.MaxBytes = min(o.MaxBytes, math.MaxInt/2)
	if o.MaxFailures == 0 {
		o.MaxFailures = DefaultMaxFailures
	}
	if o.LockWait == 0 {
		o.LockWait = DefaultLockWait
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.openFile == nil {
		o.openFile = os.OpenFile
	}
}

// Store is an open store. It is made by [Open].
type Store struct {
	o     Options
	lock  *os.File // nil: read only, and nobody else can write either
	queue queue
	state atomic.Pointer[state]
	// clock is what [Store.Purge] goes by.
	clock *runningTime

	// turn is taken by who writes to the file, or changes which file it is;
	// it also guards what follows.
	turn chan struct{}

	retryAt   time.Time // not earlier is a file opened for writing again
	lastError error     // why it could not be
	sayAt     time.Time // not earlier is the lack of a file logged again
	salvager  bool      // a goroutine copies damaged files

	life context.Context // ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup
}

// state is which files there are. It is replaced as a whole.
type state struct {
	cur *file // nil: no file could be begun in place of a damaged one
	// old are damaged files that are not yet copied, newest first.
	old []*file
	// until is when what is not found is no longer called damaged.
	until time.Time
	// copied is when the last copy ended, or that which is under way began; zero
	// if there was none since the start.
	copied time.Time
	// lost says that not all of it can be copied.
	lost   bool
	closed bool
}

// Open opens the store, or makes a new one. On a file system that cannot be
// written to it opens what is there for reading only, and for writing as soon
// as that is possible. Where there is none and no space for one, it holds nothing,
// and makes the file as soon as there is. It fails with ErrLocked, ErrNewer or ErrForeign, or
// because the file cannot be read or made. A damaged file is no failure.
//
// A file of which more than three quarters, and at least 64 MiB, are unused is
// written anew, if what is in it is not more than 256 MiB.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	o.opened = time.Now()
	path, err := resolve(o.Path)
	if err != nil {
		return nil, err
	}
	o.Path = path
	s := &Store{o: o, turn: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	s.state.Store(&state{})
	s.lock, err = lock(ctx, path, o.LockWait)
	switch {
	case err == nil || cannotWrite(err):
		err = s.openCurrent()
	case !s.present():
		err = unmadeError(err)
	}
	if errors.Is(err, errUnmade) {
		s.startUnmade(err)
		return s, nil
	}
	if err != nil {
		s.end()
		s.unlock()
		return nil, err
	}
	return s, nil
}

// resolve makes the directory of path and follows links, so that a new file
// takes the place of the old one and not that of a link to it.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("opening the store: no path")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("directory of the store: %w", err)
	}
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("opening the store: %w", err)
	}
	return filepath.Abs(target)
}

// Close waits for what is being written and closes the store. What is called
// afterwards fails with ErrClosed.
func (s *Store) Close() error {
	s.end()
	s.wg.Wait()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	st := s.state.Swap(&state{closed: true})
	if st.cur != nil {
		st.cur.close()
	}
	for _, f := range st.old {
		f.close()
	}
	s.unlock()
	return nil
}

// Load returns the record of domain. The error is cache.ErrNotFound or
// cache.ErrDamaged, or says nothing of the domain.
func (s *Store) Load(ctx context.Context, domain policy.Domain) (cache.Record, error) {
	var e *entry
	err := s.read(ctx, func(st *state) error {
		var err error
		e, err = st.load(domain.String())
		return err
	})
	switch {
	case errors.Is(err, errNone) && time.Now().Before(s.state.Load().until):
		return cache.Record{}, fmt.Errorf("%w: %s may be in a part of the store that is damaged", cache.ErrDamaged, domain)
	case errors.Is(err, errNone):
		return cache.Record{}, cache.ErrNotFound
	case err != nil:
		return cache.Record{}, fmt.Errorf("loading the record of %s: %w", domain, err)
	case e.damaged:
		return cache.Record{}, fmt.Errorf("%w: %s", cache.ErrDamaged, domain)
	}
	return e.record, nil
}

// Save keeps r in place of what was kept of its domain. When the store is
// full, domains that are in it are saved, and others get ErrFull.
func (s *Store) Save(ctx context.Context, r cache.Record) error {
	e, err := encode(r)
	if err != nil {
		return err
	}
	if err := s.write(ctx, func(p *planner) error { return p.save(e) }); err != nil {
		return fmt.Errorf("saving the record of %s: %w", r.Domain, err)
	}
	return nil
}

func encode(r cache.Record) (*entry, error) {
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("record of %s: %w: %d bytes", r.Domain, ErrTooLarge, len(data))
	}
	return newEntry(r.Domain.String(), data), nil
}

// read calls fn with the files as they are, and again with a new file when the
// current one turns out to be damaged.
func (s *Store) read(ctx context.Context, fn func(st *state) error) error {
	const tries = 5
	var err error
	for range tries {
		if err := ctx.Err(); err != nil {
			return err
		}
		st := s.state.Load()
		if st.closed {
			return ErrClosed
		}
		err = fn(st)
		if errors.Is(err, errDamage) && st.cur != nil {
			if err := s.quarantine(ctx, st.cur, err); err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, errRetired) {
			return err
		}
	}
	return err
}

// load looks for domain in all files.
func (st *state) load(domain string) (*entry, error) {
	if st.cur != nil {
		e, err := st.cur.load(domain)
		if !errors.Is(err, errNone) || len(st.old) == 0 {
			return e, err
		}
		removed, err := st.cur.removed(domain)
		if err != nil || removed {
			return nil, cmp.Or(err, errNone)
		}
	}
	return st.loadOld(domain)
}

// loadOld looks for domain in the damaged files, the newest first. If one cannot
// say what it held, an older one may say what is no longer so: it counts only when
// the time is over in which what is not found is called damaged.
func (st *state) loadOld(domain string) (*entry, error) {
	for _, f := range st.old {
		e, err := f.load(domain)
		if errors.Is(err, errRetired) {
			return nil, err
		}
		if err == nil && !e.damaged {
			return e, nil
		}
		// What cannot be read of it does not say that it was removed.
		if removed, _ := f.removed(domain); removed {
			return nil, errNone
		}
		if !errors.Is(err, errNone) && time.Now().Before(st.until) {
			return nil, fmt.Errorf("%w: it may be in a file that is being copied", cache.ErrDamaged)
		}
	}
	return nil, errNone
}

// load looks for domain in one file.
func (f *file) load(domain string) (e *entry, err error) {
	err = f.read(func(v *view) error {
		data, err := v.record(domain)
		if err != nil {
			return err
		}
		e = newEntry(domain, data)
		return nil
	})
	return e, err
}
