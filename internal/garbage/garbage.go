// Package garbage says how much the heap may grow before it is collected.
//
// Most of the heap is policies that stay, so that room for garbage is memory which
// is paid for and rarely used: with many policies it is a fifth of what is in use.
// With few, a fifth would be 1 MB, and garbage collected a hundred times in a second
// under load: so it is never less than 8 MB.
//
// It has nothing to do with what is remembered, see package cache.
package garbage

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// What a heap may grow by, at least, in bytes and in percent of what is in use.
const (
	room    = 8 << 20
	percent = 20
	// maxPercent is where the heap is so small that the percentage says
	// nothing: the runtime never collects below 4 MB for each hundred percent.
	maxPercent = 400
)

// Tune sets how much the heap may grow, now and after each collection, until stop
// is called. Where the environment of the process says it (GOGC), it does nothing.
func Tune() (stop func()) {
	g := &tuner{}
	if os.Getenv("GOGC") == "" {
		g.tune()
	}
	return g.stop
}

// tuner sets how much the heap may grow.
type tuner struct {
	mu      sync.Mutex // guards what follows
	stopped bool
}

// tune sets the percentage, and has the next collection call it again: that
// finds that nobody refers to the mark.
func (g *tuner) tune() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	debug.SetGCPercent(percentFor(liveHeap()))
	type mark struct{ _ *mark } // with a pointer: nothing else is put beside it
	runtime.AddCleanup(&mark{}, (*tuner).tune, g)
}

func (g *tuner) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
}

// percentFor returns how much a heap of which live bytes are in use may grow.
func percentFor(live uint64) int {
	return int(min(max(room*100/max(live, 1), percent), maxPercent))
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
