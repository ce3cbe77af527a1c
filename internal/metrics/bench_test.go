package metrics

import (
	"testing"
	"time"

	"tlspolicyd/cache"
)

// hit counts all that is counted when memory answers.
func hit(m *Metrics) {
	m.Lookup(cache.OutcomeMemory)
	m.Request("policy", "secure", 2*time.Microsecond)
}

func TestAHitAllocatesNothing(t *testing.T) {
	m := New(Options{})
	if n := testing.AllocsPerRun(1000, func() { hit(m) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHit(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	for b.Loop() {
		hit(m)
	}
}

func BenchmarkHitParallel(b *testing.B) {
	m := New(Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			hit(m)
		}
	})
}

func BenchmarkScrape(b *testing.B) {
	m := complete()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
