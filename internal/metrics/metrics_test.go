package metrics

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
)

// What the packages want to have counted.
var (
	_ socketmap.Metrics = (*Metrics)(nil)
	_ policymap.Metrics = (*Metrics)(nil)
	_ cache.Metrics     = (*Metrics)(nil)
	_ dnsclient.Metrics = (*Metrics)(nil)
	_ mtasts.Metrics    = (*Metrics)(nil)
)

// exported is the interface: the name of each metric, its type and its labels.
var exported = []string{
	"tlspolicyd_build_info gauge goversion version",
	"tlspolicyd_cache_entries gauge kind tier",
	"tlspolicyd_cache_lookups_total counter outcome",
	"tlspolicyd_dns_queries_total counter result type",
	"tlspolicyd_dns_validating gauge",
	"tlspolicyd_policy_changes_total counter change",
	"tlspolicyd_policy_expiring gauge",
	"tlspolicyd_refresh_overdue gauge",
	"tlspolicyd_refresh_total counter result",
	"tlspolicyd_socketmap_connections gauge",
	"tlspolicyd_socketmap_request_duration_seconds histogram",
	"tlspolicyd_socketmap_requests_total counter map result",
	"tlspolicyd_store_errors_total counter op tier",
	"tlspolicyd_sts_fetches_total counter result",
}

// complete returns metrics of which everything is shown.
func complete() *Metrics {
	m := New(Options{Version: "1.2.3"})
	m.Validating(1)
	m.WatchCache(func() cache.Entries {
		return cache.Entries{Policies: 1, Absences: 2, Unwritten: 3, Overdue: 4, Expiring: 5}
	})
	m.WatchStore(func(context.Context) (StoreEntries, error) { return StoreEntries{Policies: 6, Failures: 7}, nil })
	return m
}

func TestExactlyTheInterfaceIsExported(t *testing.T) {
	families, err := complete().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue // what every Go program shows
		}
		for _, m := range f.GetMetric() {
			line := f.GetName() + " " + strings.ToLower(f.GetType().String())
			for _, l := range m.GetLabel() {
				line += " " + l.GetName()
			}
			got = append(got, line)
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, exported) {
		t.Errorf("exported is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(exported, "\n"))
	}
}

// value returns what a series is at, given as name{label="value",...} with the
// labels in order, or as a name alone. A series that there is not is -1.
func value(t *testing.T, m *Metrics, series string) float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			if name != series {
				continue
			}
			return metric.GetCounter().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

// counts is what each call of a package moves.
var counts = []struct {
	name   string
	call   func(m *Metrics)
	series string
}{
	{"a request", func(m *Metrics) { m.Requests("policy-dane", "dane_only")(time.Millisecond) },
		`tlspolicyd_socketmap_requests_total{map="policy-dane",result="dane_only"}`},
	{"its duration", func(m *Metrics) { m.Requests("policy", "notfound")(time.Millisecond) },
		"tlspolicyd_socketmap_request_duration_seconds"},
	{"a connection", (*Metrics).ConnectionOpened, "tlspolicyd_socketmap_connections"},
	{"a question to the cache", func(m *Metrics) { m.Lookup(cache.OutcomeMemory) },
		`tlspolicyd_cache_lookups_total{outcome="memory"}`},
	{"a refresh", func(m *Metrics) { m.Refreshed(cache.RefreshFailed) },
		`tlspolicyd_refresh_total{result="failed"}`},
	{"a change", func(m *Metrics) { m.PolicyChanged(cache.ChangeWeaker) },
		`tlspolicyd_policy_changes_total{change="weaker"}`},
	{"a failure of the store", func(m *Metrics) { m.StoreFailed("local", "save") },
		`tlspolicyd_store_errors_total{op="save",tier="local"}`},
	{"a question to the DNS", func(m *Metrics) { m.QueryDone("TLSA", "servfail") },
		`tlspolicyd_dns_queries_total{result="servfail",type="TLSA"}`},
	{"a fetch", func(m *Metrics) { m.Fetched("tls") }, `tlspolicyd_sts_fetches_total{result="tls"}`},
}

func TestEachCallCountsOnceInItsSeries(t *testing.T) {
	for _, tt := range counts {
		t.Run(tt.name, func(t *testing.T) {
			m := New(Options{})
			if got := value(t, m, tt.series); got != 0 {
				t.Fatalf("%s begins at %v, want 0", tt.series, got)
			}
			tt.call(m)
			if got := value(t, m, tt.series); got != 1 {
				t.Errorf("%s is %v, want 1", tt.series, got)
			}
		})
	}
}

func TestConnectionsGoDownAgain(t *testing.T) {
	m := New(Options{})
	m.ConnectionOpened()
	m.ConnectionOpened()
	m.ConnectionClosed()
	if got := value(t, m, "tlspolicyd_socketmap_connections"); got != 1 {
		t.Errorf("connections are %v, want 1", got)
	}
}

func TestGaugesShowWhatIsHeld(t *testing.T) {
	m := complete()
	for series, want := range map[string]float64{
		`tlspolicyd_cache_entries{kind="policy",tier="memory"}`:    1,
		`tlspolicyd_cache_entries{kind="absence",tier="memory"}`:   2,
		`tlspolicyd_cache_entries{kind="unwritten",tier="memory"}`: 3,
		"tlspolicyd_refresh_overdue":                               4,
		"tlspolicyd_policy_expiring":                               5,
		`tlspolicyd_cache_entries{kind="policy",tier="local"}`:     6,
		`tlspolicyd_cache_entries{kind="failure",tier="local"}`:    7,
		"tlspolicyd_dns_validating":                                1,
	} {
		if got := value(t, m, series); got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	m.Validating(0)
	if got := value(t, m, "tlspolicyd_dns_validating"); got != 0 {
		t.Errorf("validating is %v, want 0", got)
	}
}

// A 0 would say that DANE is off, or that the store is empty.
func TestWhatIsNotKnownIsNotShown(t *testing.T) {
	m := New(Options{})
	m.WatchStore(func(context.Context) (StoreEntries, error) { return StoreEntries{}, errors.New("disk gone") })
	for _, series := range []string{
		"tlspolicyd_dns_validating", "tlspolicyd_refresh_overdue", "tlspolicyd_policy_expiring",
		`tlspolicyd_cache_entries{kind="policy",tier="memory"}`, `tlspolicyd_cache_entries{kind="policy",tier="local"}`,
	} {
		if got := value(t, m, series); got != -1 {
			t.Errorf("%s is %v before anything is known", series, got)
		}
	}
}

func TestTheStoreIsNotWaitedForLong(t *testing.T) {
	m := New(Options{})
	within := time.Duration(-1)
	m.WatchStore(func(ctx context.Context) (StoreEntries, error) {
		if end, ok := ctx.Deadline(); ok {
			within = time.Until(end)
		}
		return StoreEntries{}, nil
	})
	if _, err := m.registry.Gather(); err != nil {
		t.Fatal(err)
	}
	if within < 0 || within > storeWithin {
		t.Errorf("the store may take %v, want at most %v", within, storeWithin)
	}
}

// What a package counts has a series of its own from the start.
func TestEveryValueOfThePackagesIsKnown(t *testing.T) {
	m := New(Options{})
	for _, name := range []string{"policy", "POLICY-TLSRPT", "policy-dane", "policy-dane-tlsrpt", "QUERY", "QUERYwithTLSRPT", "postfix", "anything"} {
		asked, _ := policymap.FindMap(name)
		for kind := policy.Temp; kind <= policy.Secure; kind++ {
			known(t, m.requests, pair{asked.Name, kind.String()})
		}
	}
	for _, outcome := range []string{cache.OutcomeMemory, cache.OutcomeStore, cache.OutcomeFlight, cache.OutcomeResolved} {
		known(t, m.lookups, outcome)
	}
	for _, result := range []string{cache.RefreshOK, cache.RefreshFailed, cache.RefreshSkipped} {
		known(t, m.refreshes, result)
	}
	for _, change := range []string{cache.ChangeNew, cache.ChangeStronger, cache.ChangeWeaker, cache.ChangeOther, cache.ChangeRemoved} {
		known(t, m.changes, change)
	}
	for _, result := range []string{"ok", "dns", "address", "connect", "tls", "status", "type", "size", "timeout", "syntax", "busy"} {
		known(t, m.fetches, result)
	}
	for _, qtype := range []string{"A", "AAAA", "CNAME", "MX", "NS", "TLSA", "TXT", "other"} {
		for kind := dnsclient.KindNetwork; kind <= dnsclient.KindName; kind++ {
			known(t, m.queries, pair{qtype, kind.String()})
		}
		for _, result := range []string{"ok", "nodata", "nxdomain"} {
			known(t, m.queries, pair{qtype, result})
		}
	}
}

func known[K comparable](t *testing.T, f family[K], values K) {
	t.Helper()
	if _, ok := f.known[values]; !ok {
		t.Errorf("%v has no series", values)
	}
}

func TestWhatIsNotKnownBeforehandCountsAsOther(t *testing.T) {
	m := New(Options{})
	before := series(t, m.registry)
	for _, v := range []string{"x", "y", "victim.example", "\xff\n"} {
		m.Requests(v, v)(0)
		m.Lookup(v)
		m.StoreFailed("local", v)
		m.QueryDone(v, v)
		m.Fetched(v)
	}
	if got := value(t, m, `tlspolicyd_cache_lookups_total{outcome="other"}`); got != 4 {
		t.Errorf("other lookups are %v, want 4", got)
	}
	if got := value(t, m, `tlspolicyd_dns_queries_total{result="other",type="other"}`); got != 4 {
		t.Errorf("other queries are %v, want 4", got)
	}
	// One for each of the five, however many values there are.
	if got := series(t, m.registry) - before; got != 5 {
		t.Errorf("%d series more, want 5", got)
	}
}

// maxSeries is what a server that scrapes has to reckon with.
const maxSeries = 260

func TestTheNumberOfSeriesIsSmall(t *testing.T) {
	if n := series(t, complete().registry); n > maxSeries {
		t.Errorf("%d series, want at most %d", n, maxSeries)
	}
}

// series counts the series of this program, each bucket as one.
func series(t *testing.T, r *prometheus.Registry) int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "tlspolicyd_") {
			continue
		}
		for _, m := range f.GetMetric() {
			n++
			if h := m.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + 2 // +Inf, _sum
			}
		}
	}
	return n
}

func TestDurationsFallBetweenTheirBounds(t *testing.T) {
	for took, want := range map[time.Duration]float64{
		0:                      5e-6,
		3 * time.Microsecond:   5e-6,
		40 * time.Microsecond:  50e-6,
		700 * time.Microsecond: 1e-3,
		10 * time.Second:       10,
		10*time.Second + 1:     11,
		90 * time.Second:       100,
	} {
		m := New(Options{})
		m.Requests("policy", "secure")(took)
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "tlspolicyd_socketmap_request_duration_seconds" {
				continue
			}
			for _, b := range f.GetMetric()[0].GetHistogram().GetBucket() {
				if holds := b.GetCumulativeCount() == 1; holds != (b.GetUpperBound() >= want) {
					t.Errorf("%v: bucket %v holds it: %v, want the first to be %v", took, b.GetUpperBound(), holds, want)
				}
			}
		}
	}
}
