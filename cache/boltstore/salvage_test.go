package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
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

// damageMeta makes the meta page of the last commit unreadable: the file is then
// found damaged when it is opened.
func damageMeta(t *testing.T, path string) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	size := os.Getpagesize()
	first, _ := parseMeta(image[headerSize:])
	second, _ := parseMeta(image[size+headerSize:])
	at := headerSize
	if second.txid > first.txid {
		at += size
	}
	overwrite(t, path, int64(at), []byte{0, 0, 0, 0})
}

// damageFreelist makes the list of free pages unreadable.
func damageFreelist(t *testing.T, path string) {
	t.Helper()
	f, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	v := f.view.Load()
	overwrite(t, path, int64(v.free.id)*int64(v.size)+8, []byte{0xff, 0xff})
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
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
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
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = uncopied(t, o)
				}
				damageIndex(t, o.Path)
				findDamage(t, s)
				if restart {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
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
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
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
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
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
