// Package metrics counts what the daemon does, and shows the counts to
// Prometheus. Each package that counts declares an interface of its own;
// [Metrics] is all of them.
//
// The names of the metrics, their labels and the values of those are an
// interface: dashboards and alert rules depend on them. docs/metrics.md says
// what each of them means.
//
// Not here: what is worth counting, and any HTTP server. [Metrics.Mount] adds
// the pages to the server of somebody else.
//
// Limits: every value of a label is written down in this package; a value that
// is not counts as "other". So there are some 250 series, whatever is asked, and
// nothing that a domain publishes is among them. Series are made when the
// program starts: a count begins at 0 and not when something happens for the
// first time, and to count costs no memory. Four scrapes are answered at a time.
//
// Specification: the text format of Prometheus, version 0.0.4.
package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
)

// Options are what a [Metrics] is made from. The zero value is of use.
type Options struct {
	// Version is that of the program; empty means "unknown".
	Version string
	// Log is told when the metrics cannot be shown; nil means nobody.
	Log *zap.Logger
}

// Metrics counts for all packages of the daemon. It is safe for concurrent
// use.
type Metrics struct {
	registry *prometheus.Registry
	log      *zap.Logger

	requests    family[pair]
	duration    prometheus.Histogram
	connections prometheus.Gauge

	lookups     family[string]
	refreshes   family[string]
	changes     family[string]
	storeErrors family[pair]

	queries family[pair]
	fetches family[string]

	gauges *gauges
}

// New returns metrics that have counted nothing, with a registry of their own.
func New(o Options) *Metrics {
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	m := &Metrics{registry: prometheus.NewRegistry(), log: o.Log, gauges: newGauges()}
	m.addAnswers()
	m.addCache()
	m.addResolver()
	m.registry.MustRegister(
		m.gauges,
		buildInfo(o.Version),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// buildInfo is a gauge that is always 1; its labels are what matters.
func buildInfo(version string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "tlspolicyd_build_info",
		Help:        "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}

// buckets are the upper bounds of the durations of requests. What memory
// answers takes microseconds, what the network answers up to
// sts.answer_within, 10 s as it stands: who waited for that long is between 10
// and 11. Postfix gives up after 100 s.
//
// They are classic buckets and not native ones, which would be finer: every
// release of Prometheus reads them, in the text format too, their number is
// fixed, and to count in one allocates nothing.
var buckets = []float64{
	5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 500e-6,
	1e-3, 5e-3, 10e-3, 50e-3, 100e-3, 250e-3, 500e-3,
	1, 2.5, 5, 10, 11, 30, 100,
}

// addAnswers makes what counts the answers to Postfix.
func (m *Metrics) addAnswers() {
	m.requests = newPairs(m.registry, "tlspolicyd_socketmap_requests_total",
		"Requests by the map that was asked and the kind of the answer.",
		[2]string{"map", "result"},
		[]string{"policy", "policy-tlsrpt", "policy-dane", "policy-dane-tlsrpt", "postfix", "other"},
		[]string{"secure", "dane_only", "dane", "notfound", "temp"})
	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "tlspolicyd_socketmap_request_duration_seconds",
		Help:    "Time from a request to its answer.",
		Buckets: buckets,
	})
	m.connections = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tlspolicyd_socketmap_connections",
		Help: "Open connections from Postfix.",
	})
	m.registry.MustRegister(m.duration, m.connections)
}

// Requests returns what counts the requests for a map with one result, for
// policymap.
func (m *Metrics) Requests(mapName, result string) func(took time.Duration) {
	requests := m.requests.of(pair{mapName, result})
	return func(took time.Duration) {
		requests.Inc()
		m.duration.Observe(took.Seconds())
	}
}

// ConnectionOpened counts a connection, for socketmap.
func (m *Metrics) ConnectionOpened() { m.connections.Inc() }

// ConnectionClosed counts the end of a connection, for socketmap.
func (m *Metrics) ConnectionClosed() { m.connections.Dec() }

// addResolver makes what counts the questions to the network.
func (m *Metrics) addResolver() {
	m.queries = newPairs(m.registry, "tlspolicyd_dns_queries_total",
		"Questions to the DNS by the type of record and the outcome.",
		[2]string{"type", "result"},
		[]string{"A", "AAAA", "CNAME", "MX", "NS", "TLSA", "TXT", "other"},
		[]string{"ok", "nodata", "nxdomain", "network", "timeout", "canceled", "servfail",
			"refused", "rcode", "lame", "malformed", "loop", "name"})
	m.fetches = newFamily(m.registry, "tlspolicyd_sts_fetches_total",
		"Fetches of policies over HTTPS by their outcome.", "result",
		"ok", "dns", "address", "connect", "tls", "status", "type", "size", "timeout", "syntax", "busy")
}

// QueryDone counts a question to the DNS, for dnsclient.
func (m *Metrics) QueryDone(qtype, result string) { m.queries.count(pair{qtype, result}) }

// Validating says whether a DNS server that validates answers (1) or none does
// (0), for dnsclient.
func (m *Metrics) Validating(on int) { m.gauges.validating.Store(int32(on)) }

// Fetched counts the fetch of a policy, for mtasts.
func (m *Metrics) Fetched(result string) { m.fetches.count(result) }
