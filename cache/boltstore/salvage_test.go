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
