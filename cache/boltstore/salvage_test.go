package boltstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
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
