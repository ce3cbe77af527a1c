package metrics

import (
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// maxScrapes is how many scrapes are answered at a time; others are told to
// come back later.
const maxScrapes = 4

// Mount adds the pages for machines that watch the daemon:
//
//   - /metrics, all metrics as text
//   - /healthz, 200 whenever it is answered at all: the process serves
//   - /readyz, 200 while ready returns true, else 503: Postfix is answered
//
// They are read with GET or HEAD, whose bodies are not looked at. Nothing on
// them is a secret, and no domain is named. The limits of size and time are
// those of the server.
func (m *Metrics) Mount(mux *http.ServeMux, ready func() bool) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            complaints{m.log},
		ErrorHandling:       promhttp.ContinueOnError,
		DisableCompression:  true, // some 25 KiB
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusOK, "the process serves\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			say(w, http.StatusServiceUnavailable, "not ready: Postfix is not answered yet, or no longer\n")
			return
		}
		say(w, http.StatusOK, "ready: Postfix is answered\n")
	})
}

// say answers with a line of text. That nobody listens any more is no error.
func say(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line)
}

// complaints takes what the page of metrics has to complain about.
type complaints struct{ log *zap.Logger }

// Println logs the error that comes last; what is before it says no more.
func (c complaints) Println(v ...any) {
	if len(v) == 0 {
		return
	}
	if err, ok := v[len(v)-1].(error); ok {
		c.log.Error("not all metrics could be shown", zap.Error(err))
	}
}
