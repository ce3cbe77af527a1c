package policymap

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tlspolicyd/resolver/policy"
)

// Map is one of the maps that Postfix may ask.
type Map struct {
	// Name is the name that it is counted under.
	Name string
	// Class is how far its answers go.
	Class policy.Class
	// TLSRPT says that its policies have the attributes for TLSRPT, which
	// Postfix knows from 3.10 on.
	TLSRPT bool
}

// maps are the names that are known, the aliases among them. Names that come
// from other policy servers behave as they did there.
var maps = []struct {
	name string
	m    Map
}{
	{"policy", Map{Name: "policy", Class: policy.ClassSTS}},
	{"policy-tlsrpt", Map{Name: "policy-tlsrpt", Class: policy.ClassSTS, TLSRPT: true}},
	{"policy-dane", Map{Name: "policy-dane", Class: policy.ClassDANE}},
	{"policy-dane-tlsrpt", Map{Name: "policy-dane-tlsrpt", Class: policy.ClassDANE, TLSRPT: true}},
	{"QUERY", Map{Name: "policy-dane", Class: policy.ClassDANE}},
	{"QUERYwithTLSRPT", Map{Name: "policy-dane-tlsrpt", Class: policy.ClassDANE, TLSRPT: true}},
	{"postfix", Map{Name: "postfix", Class: policy.ClassSTSOnly}},
}

// otherMap is what every other name means.
var otherMap = Map{Name: "other", Class: policy.ClassSTSOnly}

// FindMap returns the map of the given name, in any case. It returns false for
// a name that is not known, and what it means all the same: the map "postfix".
func FindMap(name string) (Map, bool) {
	if i := indexOfMap(name); i >= 0 {
		return maps[i].m, true
	}
	return otherMap, false
}

// indexOfMap returns where in maps a name is; -1 if it is not known.
func indexOfMap(name string) int {
	for i := range maps {
		// The length keeps letters out that fold to ASCII.
		if len(name) == len(maps[i].name) && strings.EqualFold(name, maps[i].name) {
			return i
		}
	}
	return -1
}

// servedMap is a map with what counts its answers.
type servedMap struct {
	Map
	counters [policy.Secure + 1]func(took time.Duration)
}

func serve(m Map, counts Metrics) servedMap {
	s := servedMap{Map: m}
	for kind := range s.counters {
		s.counters[kind] = counts.Requests(m.Name, policy.Kind(kind).String())
	}
	return s
}

// onceSet remembers what has been warned about, up to about max strings. What
// it has no room for counts as warned about.
type onceSet struct {
	max   int64
	count atomic.Int64
	seen  sync.Map
}

// first reports whether s comes for the first time.
func (o *onceSet) first(s string) bool {
	if o.count.Load() >= o.max {
		return false
	}
	if _, seen := o.seen.LoadOrStore(s, nil); seen {
		return false
	}
	return o.count.Add(1) <= o.max
}
