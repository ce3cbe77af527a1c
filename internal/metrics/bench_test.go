package metrics

import (
	"testing"
	"time"

	"tlspolicyd/cache"
)

// hit returns what counts all that is counted when memory answers.
func hit(m *Metrics) func() {
	count := m.Requests("policy", "secure")
	return func() {
		m.Lookup(cache.OutcomeMemory)
		count(2 * time.Microsecond)
	}
}

func TestAHitAllocatesNothing(t *testing.T) {
	m := New(Options{})
	if n := testing.AllocsPerRun(1000, hit(m)); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHit(b *testing.B) {
	count := hit(New(Options{}))
	b.ReportAllocs()
	for b.Loop() {
		count()
	}
}

func BenchmarkHitParallel(b *testing.B) {
	count := hit(New(Options{}))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			count()
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
