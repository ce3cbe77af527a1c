// Package contrib tests what contrib offers: for Prometheus and Grafana against
// what the daemon shows, and for nginx as a policy host that is asked.
package contrib

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// Where the queries are.
const (
	rulesFile     = "../../contrib/prometheus/tlspolicyd.rules.yml"
	dashboardFile = "../../contrib/grafana/tlspolicyd.json"
)

// query is one query of a file, and what it is for.
type query struct{ what, expr string }

// rules returns the queries of the alerts.
func rules(t *testing.T) []query {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	read(t, rulesFile, func(data []byte) error { return yaml.Unmarshal(data, &file) })
	var all []query
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			all = append(all, query{r.Alert, r.Expr})
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", rulesFile)
	}
	return all
}

// panel is one panel of the dashboard.
type panel struct {
	Type, Title string
	Targets     []struct{ Expr string }
}

// dashboard returns the queries of the panels, and those of the variables.
func dashboard(t *testing.T) (panels, variables []query) {
	t.Helper()
	var file struct {
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	read(t, dashboardFile, func(data []byte) error { return json.Unmarshal(data, &file) })
	for _, p := range file.Panels {
		if (len(p.Targets) == 0) != (p.Type == "row") {
			t.Errorf("panel %q of type %s has %d queries", p.Title, p.Type, len(p.Targets))
		}
		for _, target := range p.Targets {
			panels = append(panels, query{p.Title, target.Expr})
		}
	}
	for _, v := range file.Templating.List {
		if v.Type == "query" {
			variables = append(variables, query{v.Name, v.Definition})
		}
	}
	if len(panels) == 0 || len(variables) == 0 {
		t.Fatalf("%s has %d queries and %d variables", dashboardFile, len(panels), len(variables))
	}
	return panels, variables
}

func read(t *testing.T, path string, decode func([]byte) error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(data); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// selector is a metric in a query, with what is asked of its labels.
type selector struct {
	metric   string
	matchers []matcher
}

type matcher struct{ label, op, value string }

// The parts of a query that matter here: a metric with its matchers, and the
// labels that series are grouped or matched by.
var (
	selectorForm = regexp.MustCompile(`\b(up|(?:tlspolicyd|process|go)_[a-z0-9_]+)\b(?:\{([^}]*)\})?`)
	matcherForm  = regexp.MustCompile(`^\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*$`)
	groupForm    = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^)]*)\)`)
)

// selectors returns the metrics of a query.
func (q query) selectors(t *testing.T) []selector {
	t.Helper()
	var all []selector
	for _, m := range selectorForm.FindAllStringSubmatch(q.expr, -1) {
		s := selector{metric: m[1]}
		for text := range strings.SplitSeq(m[2], ",") {
			if strings.TrimSpace(text) == "" {
				continue
			}
			parts := matcherForm.FindStringSubmatch(text)
			if parts == nil {
				t.Errorf("%s: %q is no matcher", q.what, text)
				continue
			}
			s.matchers = append(s.matchers, matcher{parts[1], parts[2], parts[3]})
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		t.Errorf("%s: no metric in %q", q.what, q.expr)
	}
	return all
}

// grouped returns the labels that series are grouped or matched by.
func (q query) grouped() []string {
	var all []string
	for _, m := range groupForm.FindAllStringSubmatch(q.expr, -1) {
		for label := range strings.SplitSeq(m[1], ",") {
			all = append(all, strings.TrimSpace(label))
		}
	}
	return all
}
