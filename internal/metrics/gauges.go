package metrics

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tlspolicyd/cache"
)

// StoreEntries is how much a store holds.
type StoreEntries struct {
	// Policies are the records with a policy, Failures those of domains of
	// which only failed fetches are known.
	Policies, Failures int
}

// storeWithin is how long a store may take to say how much it holds.
const storeWithin = time.Second

// WatchCache shows what a cache holds and what it is behind with.
func (m *Metrics) WatchCache(entries func() cache.Entries) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.inCache = entries
}

// WatchStore shows how much the local store holds. While that cannot be known,
// nothing is shown of it.
func (m *Metrics) WatchStore(entries func(ctx context.Context) (StoreEntries, error)) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.inStore = entries
}

// WatchShared shows whether the shared store can be reached. Without one, nothing
// is shown of it.
func (m *Metrics) WatchShared(up func() bool) {
	m.gauges.mu.Lock()
	defer m.gauges.mu.Unlock()
	m.gauges.sharedUp = up
}

// gauges shows how things stand at the moment of a scrape. Of what is not known
// it shows nothing, rather than 0.
type gauges struct {
	entries, overdue, expiring, validates, shared *prometheus.Desc

	// validating is the value of a gauge, or notTested.
	validating atomic.Int32

	mu      sync.Mutex // guards what follows
	inCache func() cache.Entries
	inStore func(ctx context.Context) (StoreEntries, error)
	// sharedUp is nil where there is no shared store.
	sharedUp func() bool
}

// notTested is what gauges.validating is before the first test of the servers:
// neither yes nor no.
const notTested = -1

func newGauges() *gauges {
	g := &gauges{
		entries: prometheus.NewDesc("tlspolicyd_cache_entries",
			"What is remembered, by where and of what kind.", []string{"tier", "kind"}, nil),
		overdue: prometheus.NewDesc("tlspolicyd_refresh_overdue",
			"Refreshes that are due and were not started; of more than 1,000, not all are counted.", nil, nil),
		expiring: prometheus.NewDesc("tlspolicyd_policy_expiring",
			"Policies past half of their life whose refresh fails.", nil, nil),
		validates: prometheus.NewDesc("tlspolicyd_dns_validating",
			"1 while a DNS server that validates answers, else 0.", nil, nil),
		shared: prometheus.NewDesc("tlspolicyd_shared_store_up",
			"0 while the shared store cannot be reached, else 1.", nil, nil),
	}
	g.validating.Store(notTested)
	return g
}

// Describe names the metrics.
func (g *gauges) Describe(descs chan<- *prometheus.Desc) {
	descs <- g.entries
	descs <- g.overdue
	descs <- g.expiring
	descs <- g.validates
	descs <- g.shared
}

// Collect shows how things stand now.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	if on := g.validating.Load(); on != notTested {
		out <- number(g.validates, int(on))
	}
	g.mu.Lock()
	inCache, inStore, sharedUp := g.inCache, g.inStore, g.sharedUp
	g.mu.Unlock()
	if inCache != nil {
		g.collectCache(out, inCache())
	}
	if inStore != nil {
		g.collectStore(out, inStore)
	}
	if sharedUp != nil {
		up := 0
		if sharedUp() {
			up = 1
		}
		out <- number(g.shared, up)
	}
}

func (g *gauges) collectCache(out chan<- prometheus.Metric, n cache.Entries) {
	out <- number(g.overdue, n.Overdue)
	out <- number(g.expiring, n.Expiring)
	out <- number(g.entries, n.Policies, tierMemory, "policy")
	out <- number(g.entries, n.Absences, tierMemory, "absence")
	out <- number(g.entries, n.Unwritten, tierMemory, "unwritten")
	out <- number(g.entries, n.Unshared, tierMemory, "unshared")
}

func (g *gauges) collectStore(out chan<- prometheus.Metric, entries func(context.Context) (StoreEntries, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), storeWithin)
	defer cancel()
	n, err := entries(ctx)
	if err != nil {
		return // what cannot be known is not shown
	}
	out <- number(g.entries, n.Policies, tierLocal, "policy")
	out <- number(g.entries, n.Failures, tierLocal, "failure")
}

func number(d *prometheus.Desc, n int, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}
