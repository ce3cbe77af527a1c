package perf_test

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// An answer from memory allocates its key and nothing else, and starts no
// goroutine.
func TestWhatAnAnswerFromMemoryLeavesBehind(t *testing.T) {
	const answers = 10_000
	for name, mapName := range map[string]string{"policy": "policy", "with attributes for reports": "policy-tlsrpt"} {
		t.Run(name, func(t *testing.T) {
			l := newGiven()
			serve(t, l)
			asked := 0
			var before, after left
			q := newQuestions(func() bool {
				switch asked++; asked {
				case 100: // what is done once is done
					before = leftBehind()
				case 100 + answers:
					after = leftBehind()
					return false
				}
				return true
			}, mapName, present)
			l.conn <- q
			<-q.done
			// A few are those of the rest of the program.
			if n := float64(after.objects-before.objects) / answers; n > 1.05 {
				t.Errorf("%.2f allocations for an answer, want 1", n)
			}
			if n := after.goroutines - before.goroutines; n > answers/100 {
				t.Errorf("%d goroutines were started for %d answers, want none", n, answers)
			}
		})
	}
}

// left is what the program has made so far.
type left struct{ objects, goroutines uint64 }

func leftBehind() left {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	sample := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(sample)
	return left{objects: m.Mallocs, goroutines: sample[0].Value.Uint64()}
}
