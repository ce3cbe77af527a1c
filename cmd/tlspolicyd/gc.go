package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// How much the heap may grow before garbage is collected. Most of the heap is
// policies that stay, so that room is memory which is paid for and rarely used:
// with many policies it is a quarter of what is in use. With few, a quarter
// would be 1 MB, and garbage collected a hundred times in a second under load:
// so it is never less than 16 MB.
const (
	gcRoom    = 16 << 20
	gcPercent = 25
	// maxGCPercent is where the heap is so small that the percentage says
	// nothing: the runtime never collects below 4 MB for each hundred percent.
	maxGCPercent = 400
)

// tuneGC sets how much the heap may grow, now and after each collection, until
// it is stopped, unless the environment of the process says it.
func tuneGC() (stop func()) {
	g := &gcTuner{}
	if os.Getenv("GOGC") == "" {
		g.tune()
	}
	return g.stop
}

// gcTuner sets how much the heap may grow.
type gcTuner struct {
	mu      sync.Mutex // guards what follows
	stopped bool
}

// tune sets the percentage, and has the next collection call it again: that
// finds that nobody refers to the mark.
func (g *gcTuner) tune() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	debug.SetGCPercent(percentFor(liveHeap()))
	type mark struct{ _ *mark } // with a pointer: nothing else is put beside it
	runtime.AddCleanup(&mark{}, (*gcTuner).tune, g)
}

func (g *gcTuner) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
}

// percentFor returns how much a heap of which live bytes are in use may grow.
func percentFor(live uint64) int {
	return int(min(max(gcRoom*100/max(live, 1), gcPercent), maxGCPercent))
}

// liveHeap returns how many bytes the last collection found in use; 0 before
// the first.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
