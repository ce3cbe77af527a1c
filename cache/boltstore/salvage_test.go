package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

func TestAnOlderRecordTakesNoPlaceOfANewerOne(t *testing.T) {
	s := open(t, options(t))
	newer := storetest.Record(t, "a.example", due)
	newer.ID = "2"
	for _, earlier := range []time.Duration{0, time.Second, 1000 * time.Hour} {
		mustSave(t, s, newer)
		older := storetest.Record(t, "a.example", due)
		older.Fetched = older.Fetched.Add(-earlier)
		e, err := encode(older)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.write(t.Context(), func(p *planner) error { return p.copyIn(e) }); err != nil {
			t.Fatal(err)
		}
		wantRecord(t, s, newer)
	}
}

func TestWhatIsLostIsDamagedForAMinuteOnly(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image[:len(sm.image)/2])
		s := open(t, o)
		unknown := storetest.Domain(t, "unknown.example")
		waitSalvaged(t, s)
		for _, step := range []struct {
			wait time.Duration
			want error
		}{{0, cache.ErrDamaged}, {58 * time.Second, cache.ErrDamaged}, {2 * time.Second, cache.ErrNotFound}} {
			time.Sleep(step.wait)
			if _, err := s.Load(t.Context(), unknown); !errors.Is(err, step.want) {
				t.Errorf("Load: %v, want %v", err, step.want)
			}
		}
	})
}

// A program that is started again while what was lost is still called damaged
// goes on to say so, for the rest of the minute, and for a minute at most
// whatever the clock says.
func TestWhatIsLostIsDamagedAlsoAfterARestart(t *testing.T) {
	sm := newSample(t)
	for name, test := range map[string]struct {
		begun   time.Duration // between the loss and the restart
		backAt  time.Duration // what is then stored of the end, counted from the restart
		damaged time.Duration // for how long after the restart
	}{
		"at once":          {damaged: 58 * time.Second},
		"after 40 seconds": {begun: 40 * time.Second, damaged: 18 * time.Second},
		"after a minute":   {begun: time.Minute},
		"clock set back":   {begun: time.Second, backAt: 1000 * time.Hour, damaged: 59 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := writeImage(t, sm.image[:len(sm.image)/2])
				s := open(t, o)
				waitSalvaged(t, s)
				time.Sleep(test.begun)
				if test.backAt > 0 {
					end := number(time.Now().Add(test.backAt).Unix())
					if err := s.write(t.Context(), func(p *planner) error {
						p.put(bucketMeta, metaLost, end)
						return nil
					}); err != nil {
						t.Fatal(err)
					}
				}
				mustClose(t, s)
				s = open(t, o)
				unknown := storetest.Domain(t, "unknown.example")
				if test.damaged > 0 {
					time.Sleep(test.damaged)
					if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrDamaged) {
						t.Errorf("Load after %v: %v, want %v", test.damaged, err, cache.ErrDamaged)
					}
				}
				time.Sleep(2 * time.Second)
				if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrNotFound) {
					t.Errorf("Load after the minute: %v, want %v", err, cache.ErrNotFound)
				}
			})
		})
	}
}

// What a damaged file is yet to be copied from is copied also if the new file is
// found damaged when the program starts again.
func TestADamagedFileThatWasBeingMadeForgetsNothing(t *testing.T) {
	sm := newSample(t)
	for name, damage := range map[string]func(t *testing.T, path string){
		"meta page": damageMeta, "list of free pages": damageFreelist,
	} {
		t.Run(name, func(t *testing.T) {
			o := writeImage(t, sm.image)
			damageIndex(t, o.Path)
			s := uncopied(t, o)
			findDamage(t, s)
			mustSave(t, s, storetest.Record(t, "new.example", due), storetest.Record(t, "newer.example", due))
			mustClose(t, s)
			damage(t, o.Path)
			synctest.Test(t, func(t *testing.T) {
				s := open(t, o)
				waitSalvaged(t, s)
				if got := sm.use(t, s); got != len(sm.records) {
					t.Errorf("%d of %d records were found", got, len(sm.records))
				}
			})
		})
	}
}

// What was lost in a copy stays damaged for its minute, also if the new file is
// damaged in turn, of which nothing is lost, and the program is started again.
func TestWhatIsLostIsDamagedAlsoAfterAnotherDamage(t *testing.T) {
	sm := newSample(t)
	for name, restart := range map[string]bool{"running": false, "started again": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := writeImage(t, sm.image[:len(sm.image)/2])
				s := open(t, o)
				waitSalvaged(t, s)
				time.Sleep(salvageWindow / 2)
				if restart {
					mustClose(t, s)
					s = uncopied(t, o)
				}
				damageIndex(t, o.Path)
				findDamage(t, s)
				if restart {
					mustClose(t, s)
					s = open(t, o)
				}
				waitSalvaged(t, s)
				unknown := storetest.Domain(t, "unknown.example")
				time.Sleep(salvageWindow/2 - 2*time.Second)
				if _, err := s.Load(t.Context(), unknown); !errors.Is(err, cache.ErrDamaged) {
					t.Errorf("Load within the minute: %v, want %v", err, cache.ErrDamaged)
				}
			})
		})
	}
}

// Who lists all to forget it, or to save it elsewhere, is told that not all of it
// can be listed yet.
func TestNoListIsCompleteBeforeTheCopyIs(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	if got, err := s.Scan(t.Context(), policy.Domain{}, 1000); !errors.Is(err, errUncopied) {
		t.Errorf("Scan before the copy: %d records, %v, want %v", len(got), err, errUncopied)
	}
	mustClose(t, s)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		waitSalvaged(t, s)
		if got, err := s.Scan(t.Context(), policy.Domain{}, 1000); len(got) != len(sm.records) || err != nil {
			t.Errorf("Scan after the copy: %d records, %v, want %d", len(got), err, len(sm.records))
		}
	})
}

// A clock that is behind when damage is found does not make the file that is set
// aside the oldest: it is kept until it was copied.
func TestTheFileThatIsBeingCopiedIsKept(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	for i := range keepDamaged {
		name := fmt.Sprintf("%s%s2999010%dT000000.000000000", o.Path, damagedSuffix, i+1)
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	mustClose(t, s)
	aside, err := filepath.Glob(o.Path + damagedSuffix + "*")
	if err != nil || len(aside) != keepDamaged {
		t.Errorf("set aside are %v, %v, want %d files", aside, err, keepDamaged)
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		waitSalvaged(t, s)
		if got := sm.use(t, s); got != len(sm.records) {
			t.Errorf("%d of %d records were found", got, len(sm.records))
		}
	})
}

// twoDamaged returns a store in which nobody copies, of two damaged files: that of
// the sample, and a newer one in which d4.example was saved anew and d3.example
// removed; damage is what was done to the newer one while nobody had it open.
func twoDamaged(t *testing.T, sm sample, damage func(t *testing.T, path string)) (s *Store, o Options, saved cache.Record, removed policy.Domain) {
	t.Helper()
	o = writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s = uncopied(t, o)
	findDamage(t, s)
	saved, removed = storetest.Record(t, "d4.example", due), storetest.Domain(t, "d3.example")
	saved.Fetched = sm.records["d4.example"].Fetched.Add(time.Hour)
	if err := s.Remove(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, saved)
	for i := range 40 { // enough for pages of their own
		mustSave(t, s, storetest.Record(t, fmt.Sprintf("new%d.example", i), due))
	}
	mustClose(t, s)
	damage(t, o.Path)
	s = uncopied(t, o)
	if n := len(s.state.Load().old); n != 2 {
		t.Fatalf("%d files are damaged, want 2", n)
	}
	return s, o, saved, removed
}

// While a damaged file cannot be read, what an older one says may be no longer so.
func TestAnOlderFileDoesNotSpeakForOneThatCannotBeRead(t *testing.T) {
	sm := newSample(t)
	for name, damage := range map[string]func(t *testing.T, path string){
		"meta page": damageMeta, "list of free pages": damageFreelist,
	} {
		t.Run(name, func(t *testing.T) {
			s, o, saved, removed := twoDamaged(t, sm, damage)
			for _, d := range []policy.Domain{saved.Domain, removed} {
				if got, err := s.Load(t.Context(), d); !errors.Is(err, cache.ErrDamaged) {
					t.Errorf("Load(%s) before the copy: fetched %v, %v, want %v", d, got.Fetched, err, cache.ErrDamaged)
				}
			}
			mustClose(t, s)
			synctest.Test(t, func(t *testing.T) {
				s := open(t, o)
				waitSalvaged(t, s)
				wantRecord(t, s, saved)
				if _, err := s.Load(t.Context(), removed); err == nil {
					t.Errorf("%s was removed and came back", removed)
				}
			})
		})
	}
}

// Nor does it when all is copied that can be read, before the minute is over.
func TestAnOlderFileDoesNotSpeakForOneThatLostSomething(t *testing.T) {
	sm := newSample(t)
	s, o, saved, _ := twoDamaged(t, sm, func(t *testing.T, path string) {
		damageLeaf(t, path, "d4.example")
		damageFreelist(t, path)
	})
	mustClose(t, s)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, o)
		for range salvageWindow / time.Second {
			synctest.Wait()
			if got, err := s.Load(t.Context(), saved.Domain); !errors.Is(err, cache.ErrDamaged) {
				t.Fatalf("Load: fetched %v, %v, want %v", got.Fetched, err, cache.ErrDamaged)
			}
			time.Sleep(time.Second)
		}
		waitSalvaged(t, s)
		wantRecord(t, s, sm.records["d4.example"])
	})
}

// A copy that is under way when the new file is set aside in turn does not go on
// with what is older than that.
func TestACopyStopsWhenTheNewFileIsSetAside(t *testing.T) {
	sm := newSample(t)
	s, _, saved, _ := twoDamaged(t, sm, damageFreelist)
	oldest := s.state.Load().old[1:]
	if _, err := s.copyAll(t.Context(), oldest); !errors.Is(err, errRetired) {
		t.Errorf("copyAll: %v, want %v", err, errRetired)
	}
	if err := s.outwait(t.Context(), oldest); !errors.Is(err, errRetired) {
		t.Errorf("outwait: %v, want %v", err, errRetired)
	}
	if got, err := s.Load(t.Context(), saved.Domain); err == nil && !storetest.Equal(got, saved) {
		t.Errorf("Load(%s): fetched %v, which was replaced", saved.Domain, got.Fetched)
	}
}

// Whichever meta page of a new file is lost, or the page that the newer one leads to,
// what is left says what is to be copied into it.
func TestEitherMetaPageSaysWhatIsToBeCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.db")
	want := []string{"a", "b"}
	for name, damage := range map[string]func(newer meta) (at int64){
		"first meta page":  func(meta) int64 { return headerSize },
		"second meta page": func(meta) int64 { return int64(os.Getpagesize() + headerSize) },
		"root":             func(newer meta) int64 { return int64(newer.root * newer.size) },
	} {
		if err := makeFile(path, want, 0, time.Time{}); err != nil {
			t.Fatal(err)
		}
		f, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newer, _ := readMeta(f.r)
		f.close()
		overwrite(t, path, damage(newer), []byte{0, 0, 0, 0})
		if f, err = openFile(path); !errors.Is(err, errDamage) {
			t.Fatalf("%s: openFile: %v, want %v", name, err, errDamage)
		}
		if got := f.sources(); !slices.Equal(got, want) {
			t.Errorf("without the %s: %v, want %v", name, got, want)
		}
		f.close()
	}
}

// Who was told before the end of a long copy that there is no record may save a
// failure after it: that takes no place of a policy that turned up meanwhile.
func TestAFailureTakesNoPlaceOfAPolicyAfterALongCopy(t *testing.T) {
	sm := newSample(t)
	synctest.Test(t, func(t *testing.T) {
		o := writeImage(t, sm.image)
		damageIndex(t, o.Path)
		s := uncopied(t, o)
		findDamage(t, s)
		time.Sleep(time.Hour)
		old := s.state.Load().old
		lost, err := s.copyAll(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := s.finish(t.Context(), old, lost); !done || err != nil {
			t.Fatalf("finish: %t, %v", done, err)
		}
		failed := storetest.Failed(t, "d11.example", time.Now())
		mustSave(t, s, failed)
		want := sm.records["d11.example"]
		want.Failure, want.LastUse = failed.Failure, failed.LastUse
		wantRecord(t, s, want)
		mustClose(t, s)
	})
}

// A file that is found damaged at the very end of a copy is copied too.
func TestDamageAtTheEndOfACopyForgetsNothing(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	old := s.state.Load().old
	lost, err := s.copyAll(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	s.state.Load().cur.unsure = true // a commit failed
	damageMeta(t, o.Path)
	if done, err := s.finish(t.Context(), old, lost); done || err != nil {
		t.Errorf("finish: %t, %v, want that there is more to copy", done, err)
	}
	if n := len(s.state.Load().old); n != 2 {
		t.Errorf("%d files are to be copied, want 2", n)
	}
	mustClose(t, s)
}

// Two files that are set aside at the same tick of a clock do not get one name.
func TestNoDamagedFileTakesThePlaceOfAnother(t *testing.T) {
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "policies.db"), filepath.Join(dir, "policies.db.damaged-1")
	for _, name := range []string{path, aside} {
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := linkOrRename(path, aside); !errors.Is(err, os.ErrExist) {
		t.Errorf("linkOrRename: %v, want %v", err, os.ErrExist)
	}
	for _, name := range []string{path, aside} {
		if b, err := os.ReadFile(name); err != nil || string(b) != name {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
}

// A file that is there when space is made, as one that was moved in with the last of
// it, says what is yet to be copied into it.
func TestAFileThatIsMadeLateSaysWhatIsToBeCopied(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	damageIndex(t, o.Path)
	s := uncopied(t, o)
	findDamage(t, s)
	mustClose(t, s)
	s = uncopied(t, o)
	s.state.Swap(&state{}).cur.close()
	s.startUnmade(syscall.ENOSPC)
	s.retryAt = time.Time{}
	mustSave(t, s, storetest.Record(t, "new.example", due))
	if got := sm.use(t, s); got != len(sm.records) {
		t.Errorf("%d of %d records were found", got, len(sm.records))
	}
	mustClose(t, s)
}

// Where nothing can be written, that is said of what may be there, and not of what
// is not and cannot turn up.
func TestToRemoveWhatIsNotThereNeedsNoWriting(t *testing.T) {
	sm := newSample(t)
	o := writeImage(t, sm.image)
	o.openFile = func(string, int, os.FileMode) (*os.File, error) { return nil, syscall.EROFS }
	s := uncopied(t, o)
	unknown := storetest.Domain(t, "unknown.example")
	if err := s.Remove(t.Context(), unknown); err != nil {
		t.Errorf("Remove of what is not there: %v", err)
	}
	if err := s.Remove(t.Context(), storetest.Domain(t, "d3.example")); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Remove of what is there: %v, want %v", err, syscall.EROFS)
	}
	if err := s.quarantine(t.Context(), s.state.Load().cur, errDamage); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), unknown); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Remove of what may turn up: %v, want %v", err, syscall.EROFS)
	}
	mustClose(t, s)
}

// Who could not take the lock replaces no file of another process.
func TestNoFileIsBegunWithoutTheLock(t *testing.T) {
	sm := newSample(t)
	s := uncopied(t, writeImage(t, sm.image))
	other, err := lock(t.Context(), s.o.Path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.quarantine(t.Context(), s.state.Load().cur, errDamage); err != nil {
		t.Fatal(err)
	}
	r := storetest.Record(t, "new.example", due)
	if err := s.Save(t.Context(), r); !errors.Is(err, ErrLocked) {
		t.Errorf("Save: %v, want %v", err, ErrLocked)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	s.retryAt = time.Time{}
	mustSave(t, s, r)
	mustClose(t, s)
}
