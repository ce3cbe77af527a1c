package boltstore

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"

	"tlspolicyd/cache/storetest"
)

// What was removed may still stand in pages that are free since. Without a meta page
// nobody can say which are, and it does not come back all the same.
func TestWhatWasRemovedDoesNotComeBackFromFreePages(t *testing.T) {
	sm := newSample(t)
	for name, damage := range map[string]func(t *testing.T, path string){
		"the meta page of the last commit": damageMeta,
		"the meta page before it":          damageOlderMeta,
		"both meta pages": func(t *testing.T, path string) {
			for i := range int64(2) {
				overwrite(t, path, i*int64(os.Getpagesize())+headerSize, []byte{0, 0, 0, 0})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := writeImage(t, sm.image)
				s := open(t, o)
				for i := range 60 {
					if err := s.Remove(t.Context(), storetest.Domain(t, fmt.Sprintf("d%d.example", i*5+1))); err != nil {
						t.Fatal(err)
					}
				}
				last := storetest.Record(t, "last.example", due)
				mustSave(t, s, last)
				mustClose(t, s)
				damage(t, o.Path)
				s = open(t, o)
				waitSalvaged(t, s)
				for i := range 60 {
					d := storetest.Domain(t, fmt.Sprintf("d%d.example", i*5+1))
					if _, err := s.Load(t.Context(), d); err == nil {
						t.Errorf("%s was removed and came back", d)
					}
				}
				wantRecord(t, s, last)
				wantRecord(t, s, sm.records["d5.example"])
			})
		})
	}
}

// Nor does it come back from an older file, if it was removed in the last commit of
// one whose meta page is gone.
func TestWhatTheLastCommitRemovedDoesNotComeBackFromAnOlderFile(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	removed := storetest.Record(t, "d3.example", due)
	mustSave(t, s, storetest.Record(t, "new.example", due), removed)
	if err := s.Remove(t.Context(), removed.Domain); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	damageMeta(t, o.Path)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		waitSalvaged(t, s)
		if r, err := s.Load(t.Context(), removed.Domain); err == nil {
			t.Errorf("%s was removed and came back, fetched %v", r.Domain, r.Fetched)
		}
		wantRecord(t, s, sm.records["d5.example"])
	})
}
