package cache

import (
	"math"
	"testing"
	"time"
)

func TestSecondsStayWithinTheirYears(t *testing.T) {
	now := time.Now().Unix()
	for in, want := range map[int64]int64{
		0: 0, now: now, -1: 0, time.Time{}.Unix(): 0, math.MaxUint32: math.MaxUint32, math.MaxUint32 + 1: math.MaxUint32,
	} {
		var s seconds
		s.Store(in)
		if got := s.Load(); got != want {
			t.Errorf("%d: got %d, want %d", in, got, want)
		}
	}
}
