// Package admin is the door for the operator of a daemon: HTTP over a Unix
// socket, through which the commands `cache …` and `status` ask what the daemon
// knows, and have it refresh or forget a domain. The server and the client are
// both here, and so are the JSON objects that pass between them.
//
//	GET    /v1/status                    [Status]
//	GET    /v1/stats                     [Stats]
//	GET    /v1/domains?after=D&limit=N   [Page]
//	GET    /v1/domains/D                 [Domain]
//	POST   /v1/domains/D/refresh         [Refreshed]
//	DELETE /v1/domains/D                 [Purged]
//	DELETE /v1/domains                   [Purged]: all of them
//
// An error is an object with the member "error"; a page that there is not is
// 404 with a sentence of plain text.
//
// Who may open the socket may do all of this: there is no other check. So it
// belongs to the daemon's user with mode 0600, and these pages are served
// nowhere else.
//
// Limits: 16 KiB of request header, sent within 5 s; no request has a body; 500
// domains on a page by default, 1,000 at most; an answer is sent within 15 s, 5
// min for a refresh, an hour for a purge of all. The number of connections is
// the listener's matter.
//
// Specification: none but this; HTTP is RFC 9110.
package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// Cache is what the daemon remembers.
type Cache interface {
	// Inspect returns all that is known of a domain.
	Inspect(ctx context.Context, domain policy.Domain) cache.View
	// Refresh fetches the policy of a domain now.
	Refresh(ctx context.Context, domain policy.Domain) (cache.Renewal, policy.STS, error)
	// Purge forgets a domain and reports whether there was anything to forget.
	Purge(ctx context.Context, domain policy.Domain) (known bool, err error)
	// PurgeAll forgets every domain and returns how many there were.
	PurgeAll(ctx context.Context) (int, error)
}

// Store is what is kept beyond memory.
type Store interface {
	// Scan returns the records of at most n domains after the given one; see
	// cache.Store.
	Scan(ctx context.Context, after policy.Domain, n int) ([]cache.Record, error)
	// StoreStats says how much it holds.
	StoreStats(ctx context.Context) (StoreStats, error)
}

// Options say what a [Server] shows. Cache, Store, Parse and Status are needed.
type Options struct {
	Cache Cache
	Store Store
	// Parse reads the text of a policy that comes from the store.
	Parse func(text string) (*policy.STSPolicy, error)
	// Status returns what the daemon says of itself. The member Stats.Store
	// is filled in here.
	Status func() Status
	// Pages adds pages of others that are to be read on the same socket; nil
	// means none.
	Pages func(mux *http.ServeMux)
	// Log takes what is wrong with requests; nil means nothing does.
	Log *zap.Logger
}

// The limits of the server; see the package comment.
const (
	maxHeader    = 12 << 10 // bytes; net/http allows 4 KiB more
	readTimeout  = 5 * time.Second
	idleTimeout  = time.Minute
	replyWithin  = 15 * time.Second
	refreshTime  = 5 * time.Minute
	purgeAllTime = time.Hour
	grace        = 2 * time.Second // for answers in progress at the end
)

// Server answers the operator. It is made by [New].
type Server struct {
	o   Options
	mux *http.ServeMux
}

// New returns a server.
func New(o Options) (*Server, error) {
	if o.Cache == nil || o.Store == nil || o.Parse == nil || o.Status == nil {
		return nil, errors.New("admin: a cache, a store, a parser and a status are needed")
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	s := &Server{o: o, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /v1/status", within(replyWithin, s.status))
	s.mux.HandleFunc("GET /v1/stats", within(replyWithin, s.stats))
	s.mux.HandleFunc("GET /v1/domains", within(replyWithin, s.list))
	s.mux.HandleFunc("GET /v1/domains/{domain}", within(replyWithin, s.show))
	s.mux.HandleFunc("POST /v1/domains/{domain}/refresh", within(refreshTime, s.refresh))
	s.mux.HandleFunc("DELETE /v1/domains/{domain}", within(replyWithin, s.purge))
	s.mux.HandleFunc("DELETE /v1/domains", within(purgeAllTime, s.purgeAll))
	s.mux.HandleFunc("/", noPage)
	if o.Pages != nil {
		o.Pages(s.mux)
	}
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Serve answers on l until ctx ends, and closes l. It then waits a little for
// answers in progress, and cuts short what takes longer. The error is nil if
// ctx ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	complaints, err := zap.NewStdLogAt(s.o.Log, zap.DebugLevel)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          complaints,
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if server.Shutdown(patient) != nil {
			cut()
			_ = server.Close() // who still waits for an answer gets none
		}
	})
	err = server.Serve(l)
	if stop() {
		_ = server.Close() // the listener is gone, and the connections follow
	} else {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin socket: %w", err)
}

// within bounds the time of a handler, its answer included.
func within(limit time.Duration, h func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.ContentLength != 0 {
			// What nobody asked for is not waited for. That the
			// deadlines cannot be set means that the client is gone.
			_ = control.SetReadDeadline(time.Now().Add(readTimeout))
			w.Header().Set("Connection", "close")
			reply(w, nil, badRequest("a request has no body"))
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(limit))
		ctx, cancel := context.WithTimeout(r.Context(), limit-limit/10)
		defer cancel()
		v, err := h(r.WithContext(ctx))
		reply(w, v, err)
	}
}
