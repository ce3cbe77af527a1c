package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// pair are the values of two labels.
type pair [2]string

// other is the value of a label for everything that is not known.
const other = "other"

// family is a counter with labels whose values are known beforehand.
type family[K comparable] struct {
	known map[K]prometheus.Counter // never written to
	// other counts what is not known. It is made when it is first needed:
	// there should be nothing to count.
	other func() prometheus.Counter
}

// count counts one event.
func (f *family[K]) count(values K) { f.of(values).Inc() }

// of returns what counts the events with these values.
func (f *family[K]) of(values K) prometheus.Counter {
	if c, ok := f.known[values]; ok {
		return c
	}
	return f.other()
}

// newFamily makes a counter with one label.
func newFamily(r *prometheus.Registry, name, help, label string, values ...string) family[string] {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	r.MustRegister(vec)
	f := family[string]{
		known: make(map[string]prometheus.Counter, len(values)),
		other: sync.OnceValue(func() prometheus.Counter { return vec.WithLabelValues(other) }),
	}
	for _, v := range values {
		f.known[v] = vec.WithLabelValues(v)
	}
	return f
}

// newPairs makes a counter with two labels, for each combination of their
// values.
func newPairs(r *prometheus.Registry, name, help string, labels [2]string, first, second []string) family[pair] {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels[:])
	r.MustRegister(vec)
	f := family[pair]{
		known: make(map[pair]prometheus.Counter, len(first)*len(second)),
		other: sync.OnceValue(func() prometheus.Counter { return vec.WithLabelValues(other, other) }),
	}
	for _, a := range first {
		for _, b := range second {
			f.known[pair{a, b}] = vec.WithLabelValues(a, b)
		}
	}
	return f
}
