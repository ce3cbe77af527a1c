package boltstore

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache/storetest"
)

func benchStore(b *testing.B) *Store {
	b.Helper()
	return open(b, Options{Path: filepath.Join(b.TempDir(), "policies.db")})
}

func BenchmarkSaveAlone(b *testing.B) {
	s := benchStore(b)
	for i := 0; b.Loop(); i++ {
		if err := s.Save(b.Context(), storetest.Record(b, fmt.Sprintf("d%d.example", i), time.Now())); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSave64AtOnce(b *testing.B) {
	s := benchStore(b)
	for i := 0; b.Loop(); i++ {
		var wg sync.WaitGroup
		for g := range 64 {
			r := storetest.Record(b, fmt.Sprintf("d%d-%d.example", i, g), time.Now())
			wg.Go(func() {
				if err := s.Save(b.Context(), r); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/record")
}

// fill saves n records in large commits.
func fill(tb testing.TB, s *Store, n int) {
	tb.Helper()
	const batch = 10_000
	for from := 0; from < n; from += batch {
		err := s.write(tb.Context(), func(p *planner) error {
			for i := from; i < min(from+batch, n); i++ {
				r := storetest.Record(tb, fmt.Sprintf("d%d.example", i), time.Now().Add(time.Duration(i)*time.Second))
				e, err := encode(r)
				if err != nil {
					return err
				}
				if err := p.save(e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkLoadOf100000(b *testing.B) {
	s := benchStore(b)
	fill(b, s, 100_000)
	for i := 0; b.Loop(); i++ {
		if _, err := s.Load(b.Context(), storetest.Domain(b, fmt.Sprintf("d%d.example", i*7919%100_000))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDue100Of100000(b *testing.B) {
	s := benchStore(b)
	fill(b, s, 100_000)
	now := time.Now().Add(time.Hour * 24 * 365)
	for b.Loop() {
		if due, err := s.Due(b.Context(), now, 100); err != nil || len(due) != 100 {
			b.Fatal(len(due), err)
		}
	}
}

func BenchmarkOpen1000000(b *testing.B) {
	o := Options{Path: filepath.Join(b.TempDir(), "policies.db")}
	s := open(b, o)
	fill(b, s, 1_000_000)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
