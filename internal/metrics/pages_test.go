package metrics

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/cache"
)

// ask asks for a page.
func ask(t *testing.T, m *Metrics, ready bool, method, path string) (int, string) {
	t.Helper()
	mux := http.NewServeMux()
	m.Mount(mux, func() bool { return ready })
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("ignored")))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestPages(t *testing.T) {
	for _, tt := range []struct {
		name, method, path string
		ready              bool
		code               int
		holds              string
	}{
		{"metrics", "GET", "/metrics", false, 200, `tlspolicyd_build_info{goversion="go`},
		{"metrics of a part", "GET", "/metrics?name[]=tlspolicyd_build_info", false, 200, "tlspolicyd_build_info"},
		{"health before it is ready", "GET", "/healthz", false, 200, "serves"},
		{"not ready", "GET", "/readyz", false, 503, "not ready"},
		{"ready", "GET", "/readyz", true, 200, "ready: Postfix is answered"},
		{"only a look", "HEAD", "/readyz", true, 200, ""},
		{"something sent", "POST", "/metrics", true, 405, ""},
		{"something sent to health", "PUT", "/healthz", true, 405, ""},
		{"another page", "GET", "/debug/pprof/", true, 404, ""},
		{"the root", "GET", "/", true, 404, ""},
		{"below a page", "GET", "/metrics/x", true, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body := ask(t, complete(), tt.ready, tt.method, tt.path)
			if code != tt.code || !strings.Contains(body, tt.holds) {
				t.Errorf("%s %s is %d, %.200q; want %d with %q", tt.method, tt.path, code, body, tt.code, tt.holds)
			}
		})
	}
}

// broken cannot be shown.
type broken struct{}

func (broken) Describe(descs chan<- *prometheus.Desc) {
	descs <- prometheus.NewDesc("broken", "cannot be shown", nil, nil)
}

func (b broken) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(prometheus.NewDesc("broken", "cannot be shown", nil, nil), errors.New("out of order"))
}

func TestWhatCannotBeShownLeavesTheRest(t *testing.T) {
	core, logged := observer.New(zapcore.DebugLevel)
	m := New(Options{Log: zap.New(core)})
	m.registry.MustRegister(broken{})
	code, body := ask(t, m, true, "GET", "/metrics")
	if code != 200 || !strings.Contains(body, "tlspolicyd_build_info") {
		t.Errorf("got %d, %.200q", code, body)
	}
	entries := logged.All()
	if len(entries) != 1 || entries[0].Level != zapcore.ErrorLevel || !strings.Contains(entries[0].ContextMap()["error"].(string), "out of order") {
		t.Errorf("logged %+v, want one error that says why", entries)
	}
}

func TestFewScrapesAreAnsweredAtATime(t *testing.T) {
	m := New(Options{})
	reading, read := make(chan struct{}, maxScrapes), make(chan struct{})
	m.WatchCache(func() cache.Entries {
		reading <- struct{}{}
		<-read
		return cache.Entries{}
	})
	mux := http.NewServeMux()
	m.Mount(mux, func() bool { return true })
	scrape := func() int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Code
	}
	codes := make(chan int, maxScrapes)
	for range maxScrapes {
		go func() { codes <- scrape() }()
	}
	for range maxScrapes {
		<-reading
	}
	if code := scrape(); code != http.StatusServiceUnavailable {
		t.Errorf("one scrape too many is %d, want 503", code)
	}
	close(read)
	for range maxScrapes {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a scrape is %d, want 200", code)
		}
	}
}

func TestTheVersionIsNeverEmpty(t *testing.T) {
	_, body := ask(t, New(Options{}), true, "GET", "/metrics")
	if !strings.Contains(body, `version="unknown"} 1`) {
		t.Error("an unknown version is not shown as such")
	}
}
