package boltstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// boltLockWait is how long bbolt may wait for its own lock on the file. Ours
// (see lock) is held already, so that only a foreign program can hold it.
const boltLockWait = 500 * time.Millisecond

// file is an open database file. Its pages are read through a descriptor of
// its own, without bbolt; bbolt is there for writing only.
type file struct {
	path string
	r    *os.File
	view atomic.Pointer[view] // nil: nothing leads to the pages
	use  readers
	// writing says that db is there.
	writing atomic.Bool

	// What follows belongs to who has the turn to write.

	db *bolt.DB // nil: not open for writing
	w  *os.File // what db writes to
	// unsure says that a commit failed, so that what db holds in memory, or
	// what is on the disk, may not be what it thinks.
	unsure bool
}

// openFile opens the file at path for reading. An error that wraps errDamage
// comes with a file, whose pages may yet be readable.
func openFile(path string) (*file, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrForeign, path)
	}
	r, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	f := &file{path: path, r: r}
	err = f.refresh()
	if errors.Is(err, errDamage) && holdsText(r) {
		err = fmt.Errorf("%w: %s holds text", ErrForeign, path)
	}
	if err != nil && !errors.Is(err, errDamage) {
		_ = r.Close() // read only
		return nil, err
	}
	return f, err
}

// holdsText reports whether a file holds text, and nothing else where a store has its
// meta pages: its name was given by mistake, and it is not ours to replace. Of a store
// that is damaged there is more left.
func holdsText(r io.ReaderAt) bool {
	b := make([]byte, 2*slices.Max(pageSizes))
	n, err := r.ReadAt(b, 0)
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	for b = b[:n]; utf8.FullRune(b); { // it may end within a character
		c, size := utf8.DecodeRune(b)
		if c == utf8.RuneError || unicode.IsControl(c) && !strings.ContainsRune("\t\r\n", c) {
			return false
		}
		b = b[size:]
	}
	return true
}

// refresh makes the state of the last commit the one that is read.
func (f *file) refresh() error {
	info, err := f.r.Stat()
	if err != nil {
		return fmt.Errorf("size of the store: %w", err)
	}
	v, err := readView(f.r, info.Size())
	if err != nil {
		return err
	}
	f.view.Store(v)
	return nil
}

// read calls fn with the state of the last commit, which does not change until
// fn returns. It returns errRetired when the file is in use no more.
func (f *file) read(fn func(v *view) error) error {
	e := f.use.enter()
	if e == nil {
		return errRetired
	}
	defer f.use.leave(e)
	v := f.view.Load()
	if v == nil {
		return fmt.Errorf("%w: nothing of it can be read", errDamage)
	}
	return fn(v)
}

// remains returns what leads to the buckets of a file that nobody writes to, and
// may be damaged. If the last commit cannot be read, it is that before.
func (f *file) remains() *view {
	if v := f.view.Load(); v != nil {
		return v
	}
	for _, m := range readMetas(f.r) {
		v := &view{pager: pager{r: f.r, size: int(m.size), high: m.high}, root: m.root}
		_ = v.readBuckets() // as far as it goes
		if _, ok := v.buckets[bucketMeta]; ok {
			return v
		}
	}
	return new(view)
}

// openWriter opens the file for writing. Its list of free pages is read in
// full before bbolt sees it, since bbolt believes it.
func (f *file) openWriter(o *Options) error {
	v := f.view.Load()
	if err := v.ids(v.free, func(uint64) {}); err != nil {
		return err
	}
	err := guard(func() error {
		db, err := bolt.Open(f.path, 0o600, &bolt.Options{
			Timeout: boltLockWait,
			// Of the two kinds, this is the one that takes the first free
			// pages that are enough, so that larger ones stay together.
			FreelistType: bolt.FreelistArrayType,
			MaxSize:      int(o.MaxBytes),
			OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
				var err error
				f.w, err = o.openFile(path, flag&^os.O_CREATE, mode)
				return f.w, err
			},
		})
		if err != nil {
			return openError(err)
		}
		db.AllocSize = int(min(max(o.MaxBytes/32, 1<<16), int64(db.AllocSize)))
		f.db, f.unsure = db, false
		f.writing.Store(true)
		return nil
	})
	if errors.Is(err, errDamage) {
		f.abandonWriter()
	}
	return err
}

// openError says which errors of bbolt mean damage, and which a lock.
func openError(err error) error {
	for _, damage := range []error{
		bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum,
	} {
		if errors.Is(err, damage) {
			return fmt.Errorf("%w: %w", errDamage, err)
		}
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("%w by a program that opened the file itself", ErrLocked)
	}
	return fmt.Errorf("opening the store for writing: %w", err)
}

// settle makes bbolt and the disk agree after a commit that failed. The kernel
// forgets which pages it could not write once it has said so, so the meta
// pages are written again as they are: if the commit did get that far, a later
// one may rely on it. Then bbolt reads all that it keeps in memory anew.
func (f *file) settle(o *Options) error {
	if !f.unsure {
		return nil
	}
	if f.db != nil {
		b := make([]byte, 2*f.view.Load().size)
		if _, err := f.r.ReadAt(b, 0); err != nil {
			return fmt.Errorf("%w: meta pages: %w", errDamage, err)
		}
		if _, err := f.w.WriteAt(b, 0); err != nil {
			return fmt.Errorf("writing the meta pages again: %w", err)
		}
		if err := f.w.Sync(); err != nil {
			return fmt.Errorf("syncing the meta pages: %w", err)
		}
		f.closeWriter()
	}
	if err := f.refresh(); err != nil {
		return err
	}
	return f.openWriter(o)
}

// closeWriter closes bbolt. Where bbolt panics, it is left alone; its lock is
// given back all the same.
func (f *file) closeWriter() {
	if f.db == nil {
		return
	}
	if err := guard(f.db.Close); errors.Is(err, errDamage) {
		f.abandonWriter()
	}
	f.db, f.w = nil, nil
	f.writing.Store(false)
}

// abandonWriter gives up a bbolt that has panicked: it may hold its own locks
// for ever, so that Close would wait for ever. Its memory map stays.
func (f *file) abandonWriter() {
	if f.w != nil {
		_ = syscall.Flock(int(f.w.Fd()), syscall.LOCK_UN) // nothing to be done about it
		_ = f.w.Close()
	}
	f.db, f.w = nil, nil
	f.writing.Store(false)
}

// close closes the file when the last reader has left.
func (f *file) close() {
	f.closeWriter()
	f.use.retire()
	_ = f.r.Close() // read only
}

// guard runs fn and turns a panic or a memory fault in it into an error that
// wraps errDamage: bbolt panics on pages that do not fit, and faults on pages
// that the file does not have.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p}
		}
	}()
	return fn()
}

// panicError is a panic inside bbolt.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("%v: panic: %v", errDamage, e.value) }
func (e *panicError) Unwrap() error { return errDamage }

// cannotWrite reports whether err means that a file is there to read, but not
// to write: that says nothing about what is in it.
func cannotWrite(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// errRetired: the file is in use no more; another has taken its place.
var errRetired = errors.New("the file was set aside")

// readers knows who reads a file. A page that is free after commit n may be
// written to in commit n+1; so a writer, before it begins, waits for all who
// began to read before commit n was done, and for none that come later.
type readers struct {
	mu      sync.Mutex // guards what follows
	now     *era
	retired bool
}

// era is the readers that began between two commits.
type era struct {
	n     int
	ended bool
	empty chan struct{}
}

// enter returns the era to leave afterwards; nil when the file is retired.
func (r *readers) enter() *era {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.retired {
		return nil
	}
	if r.now == nil {
		r.now = &era{empty: make(chan struct{})}
	}
	r.now.n++
	return r.now
}

func (r *readers) leave(e *era) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.n--
	if e.ended && e.n == 0 {
		close(e.empty)
	}
}

// wait waits for all that read now.
func (r *readers) wait() {
	r.mu.Lock()
	e := r.now
	r.now = nil
	if e == nil || e.n == 0 {
		r.mu.Unlock()
		return
	}
	e.ended = true
	r.mu.Unlock()
	<-e.empty
}

// retire lets nobody in any more, and waits for those that are.
func (r *readers) retire() {
	r.mu.Lock()
	r.retired = true
	r.mu.Unlock()
	r.wait()
}
