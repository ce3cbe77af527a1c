package boltstore

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(with, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// spoil writes over a part of a file that nobody has open; part says where that
// begins.
func spoil(t *testing.T, path string, with []byte, part func(v *view) (at int64)) {
	t.Helper()
	f, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	overwrite(t, path, part(f.view.Load()), with)
}

// kind is where the flags of a page are: these are none that a page has.
func kind(v *view, id uint64) int64 { return int64(id)*int64(v.size) + 8 }

var noKind = []byte{0xff, 0xff}

// damageMeta makes the meta page of the last commit unreadable: the file is then
// found damaged when it is opened.
func damageMeta(t *testing.T, path string) {
	t.Helper()
	spoil(t, path, []byte{0, 0, 0, 0}, func(v *view) int64 {
		m := readMetas(v.r)[0]
		return int64(m.txid%2*m.size) + headerSize
	})
}

// damageOlderMeta makes the other meta page unreadable.
func damageOlderMeta(t *testing.T, path string) {
	t.Helper()
	spoil(t, path, []byte{0, 0, 0, 0}, func(v *view) int64 {
		m := readMetas(v.r)[0]
		return int64((m.txid+1)%2*m.size) + headerSize
	})
}

// damageFreelist makes the list of free pages unreadable.
func damageFreelist(t *testing.T, path string) {
	t.Helper()
	spoil(t, path, noKind, func(v *view) int64 { return kind(v, v.free.id) })
}

// damageBranch makes the branch above the leaves of records unreadable.
func damageBranch(t *testing.T, path string) {
	t.Helper()
	spoil(t, path, noKind, func(v *view) int64 {
		root := v.buckets[bucketRecords].root
		if p, err := v.read(root); err != nil || p.leaf {
			t.Fatalf("the root of the records is no branch, %v", err)
		}
		return kind(v, root)
	})
}

// damageLeaf makes the page with the record of a domain unreadable.
func damageLeaf(t *testing.T, path, domain string) {
	t.Helper()
	spoil(t, path, make([]byte, os.Getpagesize()), func(v *view) int64 {
		id := v.buckets[bucketRecords].root
		for {
			p, err := v.read(id)
			if err != nil {
				t.Fatal(err)
			}
			if p.leaf {
				return int64(id) * int64(v.size)
			}
			id = p.child(p.way([]byte(domain)))
		}
	})
}

// damageIndex makes the root of an index unreadable; the records are not.
func damageIndex(t *testing.T, path string) {
	t.Helper()
	spoil(t, path, noKind, func(v *view) int64 {
		root := v.buckets[bucketExpiry].root
		if root == 0 {
			t.Fatal("the index has no page of its own")
		}
		return kind(v, root)
	})
}

// findDamage has the store read the index.
func findDamage(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Purge(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(s.state.Load().old) == 0 {
		t.Fatal("the damage was not found")
	}
}

// uncopied opens a store in which nobody copies damaged files.
func uncopied(t *testing.T, o Options) *Store {
	t.Helper()
	s := &Store{o: o, turn: make(chan struct{}, 1), salvager: true}
	s.o.setDefaults()
	s.life, s.end = t.Context(), func() {}
	s.state.Store(&state{})
	if err := s.openCurrent(); err != nil {
		t.Fatal(err)
	}
	return s
}

// waitSalvaged waits until what can be read was copied.
func waitSalvaged(t *testing.T, s *Store) {
	t.Helper()
	synctest.Wait()
	for range 100 {
		if len(s.state.Load().old) == 0 {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	t.Fatal("the damaged file was not copied")
}
