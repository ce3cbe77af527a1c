package garbage

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestRoomForGarbage(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 400}, // before the first collection
		{1 * mb, 400},
		{2 * mb, 400},
		{4 * mb, 200},
		{8 * mb, 100},
		{20 * mb, 40},
		{40 * mb, 20},
		{64 * mb, 20},
		{1 << 40, 20},
	} {
		if got := percentFor(tt.live); got != tt.want {
			t.Errorf("%d MB in use: %d %%, want %d %%", tt.live/mb, got, tt.want)
		}
	}
}

func TestRoomForGarbageFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer func() { debug.SetGCPercent(before) }()
	t.Setenv("GOGC", "77")
	Tune()()
	waitForGCPercent(t, func(got uint64) bool { return got == 77 })

	t.Setenv("GOGC", "")
	stop := Tune()
	defer stop()
	large := make([]byte, 256<<20)
	waitForGCPercent(t, func(got uint64) bool { return got == percent })
	runtime.KeepAlive(large)
	waitForGCPercent(t, func(got uint64) bool { return got > percent })
}

// waitForGCPercent collects garbage until the percentage is as it should be.
func waitForGCPercent(t *testing.T, ok func(percent uint64) bool) {
	t.Helper()
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for range 10_000 {
		runtime.GC()
		metrics.Read(sample)
		if ok(sample[0].Value.Uint64()) {
			return
		}
	}
	t.Fatalf("the heap may grow by %d %%", sample[0].Value.Uint64())
}
