package policy

import (
	"testing"
	"time"
	"unsafe"
)

// jumped returns t as it would have been read if the wall clock had jumped by
// d seconds before: the wall clock differs, the monotonic one does not. It
// relies on the layout that package time documents for a Time with a monotonic
// reading: 33 bits of seconds above 30 bits of nanoseconds.
func jumped(t time.Time, seconds int64) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = uint64(int64(*wall) + seconds<<30)
	return t
}

func TestJumpedMovesOneClockOnly(t *testing.T) {
	start := time.Now()
	now := jumped(start, 3600)
	if got := now.Sub(start); got != 0 {
		t.Errorf("monotonic difference: got %v, want 0", got)
	}
	if got := now.Round(0).Sub(start.Round(0)); got != time.Hour {
		t.Errorf("wall-clock difference: got %v, want 1h", got)
	}
}

const year = 365 * 24 * time.Hour

func TestNoJumpOfTheClockEndsAPolicy(t *testing.T) {
	start := time.Now()
	later := func(d time.Duration, jump time.Duration) time.Time {
		return jumped(start.Add(d), int64(jump/time.Second))
	}
	for _, tt := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"at once", start, true},
		{"a second before the end", later(time.Hour-time.Second, 0), true},
		{"at the end", later(time.Hour, 0), false},
		{"after a jump forward, before the end", later(time.Minute, year), true},
		{"after a jump forward, at the end by the monotonic clock", later(time.Hour, year), false},
		{"after a jump backward, before the end", later(time.Minute, -year), true},
		{"after a jump backward, the wall clock says there is time left", later(2*time.Hour, -year), true},
	} {
		s := STS{Policy: &STSPolicy{Mode: ModeEnforce, MaxAge: time.Hour}, Fetched: start}
		if got := s.InForce(tt.now); got != tt.want {
			t.Errorf("%s: in force %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestWhatWasStoredLivesByTheClocksOfTheStart(t *testing.T) {
	start := time.Now()
	fetched := time.Unix(start.Unix()-1800, 0) // from a store: wall clock only
	s := STS{Policy: &STSPolicy{Mode: ModeEnforce, MaxAge: time.Hour}, Fetched: Anchor(start, fetched)}
	for _, tt := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"half of its life is left", start.Add(29 * time.Minute), true},
		{"its life is over", start.Add(31 * time.Minute), false},
		{"a jump forward does not end it", jumped(start.Add(29*time.Minute), int64(year/time.Second)), true},
	} {
		if got := s.InForce(tt.now); got != tt.want {
			t.Errorf("%s: in force %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMaxAgeZeroCountsForTheQuestionThatWaited(t *testing.T) {
	asked := time.Now()
	s := STS{Policy: &STSPolicy{Mode: ModeEnforce}, Fetched: asked.Add(time.Second)}
	if !s.InForce(asked) {
		t.Error("not in force for the question that caused the fetch")
	}
	if s.InForce(asked.Add(2 * time.Second)) {
		t.Error("in force for a question that was asked after the fetch")
	}
}
