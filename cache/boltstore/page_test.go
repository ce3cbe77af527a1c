package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tlspolicyd/cache/storetest"
)

// smallImage is a store with pages of 1 KiB and n records.
func smallImage(t testing.TB, n int) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{PageSize: 1024})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		for i := range n {
			r := storetest.Record(t, fmt.Sprintf("d%d.example", i), time.Unix(1_800_000_000, 0))
			r.Fetched, r.Expires, r.LastUse = time.Unix(1_700_000_000, 0), time.Unix(1_900_000_000, 0), time.Time{}
			e, err := encode(r)
			if err != nil {
				return err
			}
			if err := tx.Bucket([]byte(bucketRecords)).Put([]byte(e.domain), e.data); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaFormat), []byte{fileFormat})
	})
	high := int64(0)
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error { high = tx.Size(); return nil })
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return image[:high]
}

// FuzzFile reads a file of any content. It must neither panic, nor take more
// memory than a page may have, nor find a record that has not its checksum.
func FuzzFile(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{0, 1, 9} {
		image := smallImage(f, n)
		f.Add(image)
		for range 8 {
			b := bytes.Clone(image)
			at, with := hurt(random, b)
			copy(b[at:], with)
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		r := bytes.NewReader(image)
		if v, err := readView(r, int64(len(image))); err == nil {
			readAll(t, v)
		} else if !errors.Is(err, errDamage) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
			t.Errorf("readView: %v, which is neither damage nor foreign", err)
		}
		sc := scan{r: r, bytes: int64(len(image)), found: func(e *entry) error {
			if !e.damaged && e.record.Domain.String() != e.domain {
				t.Errorf("the record of %s was found as %s", e.record.Domain, e.domain)
			}
			return nil
		}}
		if err := sc.run(); err != nil {
			t.Errorf("scan: %v", err)
		}
	})
}

// readAll reads every key in every way.
func readAll(t *testing.T, v *view) {
	_ = v.ids(v.free, func(uint64) {}) // an error is fine
	for _, name := range buckets {
		tree := v.buckets[name]
		var last []byte
		err := tree.walk(nil, func(key, _ []byte) bool {
			if last != nil && bytes.Compare(last, key) >= 0 {
				t.Errorf("%s: %q comes after %q", name, key, last)
			}
			last = slices.Clone(key)
			return true
		})
		if err != nil && !errors.Is(err, errDamage) {
			t.Errorf("%s: %v", name, err)
		}
		if last == nil {
			continue
		}
		for _, key := range [][]byte{last, last[:len(last)-1], append(last, 0)} {
			for _, err := range []error{second(tree.find(key)), tree.check(key), second(v.record(string(key)))} {
				if err != nil && !errors.Is(err, errDamage) && !errors.Is(err, errNone) {
					t.Errorf("%s: %q: %v", name, key, err)
				}
			}
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestPagesThatDoNotFitAreDamage(t *testing.T) {
	image := smallImage(t, 9)
	v, err := readView(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	branch := int(v.buckets[bucketRecords].root) * v.size
	p, err := v.read(uint64(branch / v.size))
	if err != nil || p.leaf {
		t.Fatalf("the root of the records is no branch, %v", err)
	}
	leaf := int(p.child(0)) * v.size
	freePage := int(v.free.id) * v.size
	for _, tt := range []struct {
		name string
		at   int
		with []byte
	}{
		{"another page id", leaf, []byte{0xff}},
		{"no flags", leaf + 8, []byte{0, 0}},
		{"two flags", leaf + 8, []byte{3, 0}},
		{"more elements than there are", leaf + 10, []byte{3}},
		{"fewer elements than there are", leaf + 10, []byte{1}},
		{"a count of 65535", leaf + 10, []byte{0xff, 0xff}},
		{"it runs over the end", leaf + 12, []byte{0xff, 0xff, 0xff, 0x7f}},
		{"it runs over by one", leaf + 12, []byte{1}},
		{"an element elsewhere", leaf + 16 + 4, []byte{0xf0, 0xff}},
		{"an element too long", leaf + 16 + 12, []byte{0xff, 0xff, 0xff, 0xff}},
		{"an element without a key", leaf + 16 + 8, []byte{0, 0}},
		{"keys out of order", leaf + int(headerSize) + 2*16, []byte("zz")},
		{"a child out of bounds", branch + 16 + 8, []byte{0xff, 0xff, 0xff}},
		{"a child that is its parent", branch + 16 + 8, []byte{byte(branch / v.size)}},
		{"a branch without elements", branch + 10, []byte{0, 0}},
		{"a freelist that is none", freePage + 8, []byte{2}},
		{"a freelist that is too long", freePage + 10, []byte{0xff, 0xfe}},
		{"a freelist of 2^63 pages", freePage + 10, []byte{0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}},
		{"a freelist that runs over", freePage + 12, []byte{1}},
		{"one invalid meta page", 60, []byte{0xff}},
		{"the other invalid meta page", v.size + 60, []byte{0xff}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(image)
			copy(b[tt.at:], tt.with)
			if bytes.Equal(b, image) {
				t.Fatal("nothing was changed")
			}
			v, err := readView(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				_, err = v.record("d0.example")
			}
			if !errors.Is(err, errDamage) {
				t.Errorf("%v, want damage", err)
			}
		})
	}
}

func TestADamagedKeyIsFoundByItsNeighbour(t *testing.T) {
	image := smallImage(t, 9)
	for i := range 9 {
		name := fmt.Sprintf("d%d.example", i)
		for _, other := range []string{fmt.Sprintf("d%d.exampla", i), fmt.Sprintf("d%d.examplf", i), fmt.Sprintf("d%d.examplz", i)} {
			b := bytes.Clone(image)
			// The key in the leaf goes before the record.
			at := bytes.Index(b, []byte(name+"\x01"))
			if at < 0 {
				t.Fatalf("no key %s", name)
			}
			copy(b[at:], other)
			v, err := readView(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				_, err = v.record(name)
			}
			if !errors.Is(err, errDamage) {
				t.Errorf("%s is called %s: %v, want damage", name, other, err)
			}
		}
	}
}
