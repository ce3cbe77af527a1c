package contrib

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/cache"
	"tlspolicyd/internal/metrics"
)

// export is what the daemon shows: the values of each label of each metric.
type export map[string]map[string][]string

// scrape reads the metrics of a daemon that shows all of them.
func scrape(t *testing.T) export {
	t.Helper()
	m := metrics.New(metrics.Options{Version: "1.2.3"})
	m.Validating(1)
	m.WatchCache(func() cache.Entries { return cache.Entries{} })
	m.WatchStore(func(context.Context) (metrics.StoreEntries, error) { return metrics.StoreEntries{}, nil })
	m.WatchShared(func() bool { return true })
	mux := http.NewServeMux()
	m.Mount(mux, func() bool { return true })
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return parse(t, w.Body.String())
}

var (
	sampleForm = regexp.MustCompile(`^([a-z0-9_]+)(?:\{(.*)\})? [^ ]+$`)
	labelForm  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// parse reads the text format, as far as this program writes it.
func parse(t *testing.T, text string) export {
	t.Helper()
	e := export{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sampleForm.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is no sample", line)
		}
		if e[m[1]] == nil {
			e[m[1]] = map[string][]string{}
		}
		for _, l := range labelForm.FindAllStringSubmatch(m[2], -1) {
			e[m[1]][l[1]] = append(e[m[1]][l[1]], l[2])
		}
	}
	return e
}

// attached are the labels that the server adds when it scrapes.
var attached = []string{"job", "instance"}

// has says what is wrong with a selector; nothing if there are such series.
func (e export) has(s selector) string {
	labels, ok := e[s.metric]
	if !ok && s.metric != "up" {
		return "there is no metric " + s.metric
	}
	for _, m := range s.matchers {
		if slices.Contains(attached, m.label) {
			continue
		}
		values, ok := labels[m.label]
		if !ok {
			return s.metric + " has no label " + m.label
		}
		wanted := []string{m.value}
		if strings.HasSuffix(m.op, "~") {
			wanted = strings.Split(m.value, "|")
		}
		for _, v := range wanted {
			if !slices.Contains(values, v) {
				return s.metric + " has no " + m.label + " " + v
			}
		}
	}
	return ""
}

// groups says which label of q none of its metrics has.
func (e export) groups(t *testing.T, q query) string {
	t.Helper()
	for _, label := range q.grouped() {
		if slices.Contains(attached, label) {
			continue
		}
		has := func(s selector) bool { _, ok := e[s.metric][label]; return ok }
		if !slices.ContainsFunc(q.selectors(t), has) {
			return "no metric of it has the label " + label
		}
	}
	return ""
}

func TestEveryQueryIsOfWhatIsExported(t *testing.T) {
	e := scrape(t)
	panels, variables := dashboard(t)
	for _, q := range slices.Concat(rules(t), panels, variables) {
		for _, s := range q.selectors(t) {
			if wrong := e.has(s); wrong != "" {
				t.Errorf("%s: %s", q.what, wrong)
			}
		}
		if wrong := e.groups(t, q); wrong != "" {
			t.Errorf("%s: %s", q.what, wrong)
		}
	}
}

func TestQueriesOfWhatIsNotExportedAreNoticed(t *testing.T) {
	e := scrape(t)
	for _, expr := range []string{
		`tlspolicyd_no_such_total`,
		`rate(tlspolicyd_refresh_total{outcome="ok"}[5m])`,
		`rate(tlspolicyd_refresh_total{result="fine"}[5m])`,
		`rate(tlspolicyd_refresh_total{job="x",result=~"ok|fine"}[5m])`,
		`rate(tlspolicyd_refresh_total{result!="fine"}[5m])`,
		`sum by (outcome) (rate(tlspolicyd_refresh_total[5m]))`,
		`tlspolicyd_refresh_overdue > ignoring (tier, kinds) tlspolicyd_cache_entries`,
	} {
		q := query{"a query", expr}
		wrong := e.groups(t, q)
		for _, s := range q.selectors(t) {
			wrong += e.has(s)
		}
		if wrong == "" {
			t.Errorf("nothing is wrong with %s", expr)
		}
	}
}

// What there is to see can be seen.
func TestTheDashboardShowsEveryMetric(t *testing.T) {
	panels, _ := dashboard(t)
	shown := map[string]bool{}
	for _, q := range panels {
		for _, s := range q.selectors(t) {
			shown[s.metric] = true
		}
	}
	for name := range scrape(t) {
		if strings.HasPrefix(name, "tlspolicyd_") && !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

const manual = "../../docs/metrics.md"

var nameForm = regexp.MustCompile("tlspolicyd_[a-z_]+")

// suffixes are those of the series of a histogram.
var suffixes = regexp.MustCompile("_(bucket|sum|count)$")

func TestTheManualNamesWhatIsExported(t *testing.T) {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	text, e := string(data), scrape(t)
	named := map[string]bool{}
	for _, name := range nameForm.FindAllString(text, -1) {
		named[name] = true
		if e[name] == nil && e[name+"_count"] == nil {
			t.Errorf("%s names %s, which is not exported", manual, name)
		}
	}
	for name, labels := range e {
		if !strings.HasPrefix(name, "tlspolicyd_") {
			continue
		}
		if !named[suffixes.ReplaceAllString(name, "")] {
			t.Errorf("%s does not name %s", manual, name)
		}
		for label, values := range labels {
			if label == "le" || name == "tlspolicyd_build_info" {
				continue
			}
			for _, word := range append(values, label) {
				if !strings.Contains(text, "`"+word+"`") {
					t.Errorf("%s does not name %s of %s", manual, word, name)
				}
			}
		}
	}
	for _, rule := range rules(t) {
		if !strings.Contains(text, "`"+rule.what+"`") {
			t.Errorf("%s does not name the alert %s", manual, rule.what)
		}
	}
}

var (
	headForm = regexp.MustCompile(`^\*\*(tlspolicyd_[a-z_]+)\*\*`)
	codeForm = regexp.MustCompile("`([^`]+)`")
)

// What the tables of the manual explain is there from the start, under that name
// and not as something else.
func TestWhatTheManualExplainsIsExported(t *testing.T) {
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	e, metric, explained := scrape(t), "", 0
	for line := range strings.Lines(string(data)) {
		if m := headForm.FindStringSubmatch(line); m != nil {
			metric = m[1]
		}
		cell, isRow := strings.CutPrefix(line, "| `")
		if !isRow || metric == "" {
			continue
		}
		cell, _, _ = strings.Cut("`"+cell, "|")
		for _, word := range codeForm.FindAllStringSubmatch(cell, -1) {
			explained++
			if !slices.ContainsFunc(slices.Collect(maps.Values(e[metric])), func(values []string) bool {
				return slices.Contains(values, word[1])
			}) {
				t.Errorf("%s explains %s of %s, which is not exported", manual, word[1], metric)
			}
		}
	}
	if explained < 30 {
		t.Errorf("only %d values are explained", explained)
	}
}
