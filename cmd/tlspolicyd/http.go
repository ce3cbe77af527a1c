package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache/boltstore"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/internal/metrics"
)

// Limits of the pages at admin.http. They are read without authentication, so
// a connection serves one request and does not last longer than both times
// together.
const (
	httpRead   = 5 * time.Second  // for the request
	httpWrite  = 15 * time.Second // for the answer
	httpHeader = 8 << 10          // bytes; net/http allows 4 KiB more
	httpConns  = 64               // open at a time; more take the place of those that say nothing
	httpGrace  = 2 * time.Second  // for answers in progress at the end
)

// watch serves metrics and health at admin.http, if that is set, until the
// function that it returns is called. That it cannot is an error in the log
// only: mail matters more.
func (d *daemon) watch(ctx context.Context) (stop func()) {
	if d.http.Network == "" {
		return func() {}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, d.http.Network, d.http.String())
	if err != nil {
		d.log.Error("metrics and health are not served; mail is not affected", zap.Error(err))
		return func() {}
	}
	d.log.Info("serving metrics and health", zap.Stringer("address", l.Addr()))
	mux := http.NewServeMux()
	d.metrics.Mount(mux, d.ready.Load)
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var serving sync.WaitGroup
	serving.Go(func() { serveHTTP(within, l, mux, d.log) })
	return func() {
		cancel()
		serving.Wait()
	}
}

// serveHTTP serves h on l until ctx ends, and closes l.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *zap.Logger) {
	clients, _ := zap.NewStdLogAt(log.Named("http"), zap.DebugLevel) // of a level that there is
	door := newTurnstile(l, httpConns)
	server := &http.Server{
		Handler:        door.serving(h),
		ConnContext:    door.enter,
		ReadTimeout:    httpRead,
		WriteTimeout:   httpWrite,
		MaxHeaderBytes: httpHeader,
		ErrorLog:       clients,
	}
	server.SetKeepAlivesEnabled(false)
	var ending sync.WaitGroup
	ending.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // who still waits for an answer gets none
		}
	})
	err := server.Serve(door)
	if !errors.Is(err, http.ErrServerClosed) {
		log.Error("metrics and health are not served any more; mail is not affected", zap.Error(err))
	}
	ending.Wait()
}

// fewConns is a listener with a limit of connections that are open at a time.
// Beyond that, Accept waits.
type fewConns struct {
	net.Listener
	slots chan struct{}
	ended chan struct{} // closed by Close
	close func() error
}

func newFewConns(l net.Listener, limit int) *fewConns {
	f := &fewConns{Listener: l, slots: make(chan struct{}, limit), ended: make(chan struct{})}
	f.close = sync.OnceValue(func() error {
		close(f.ended)
		return l.Close()
	})
	return f
}

// Accept waits for a slot, and then for a connection.
func (f *fewConns) Accept() (net.Conn, error) {
	select {
	case f.slots <- struct{}{}:
	case <-f.ended:
		return nil, net.ErrClosed
	}
	c, err := f.Listener.Accept()
	if err != nil {
		<-f.slots
		return nil, err
	}
	return &slotConn{Conn: c, release: sync.OnceFunc(func() { <-f.slots })}, nil
}

// Close ends Accept, also while it waits for a slot.
func (f *fewConns) Close() error { return f.close() }

// slotConn is a connection that has a slot until it is closed.
type slotConn struct {
	net.Conn
	release func()
}

// Close closes the connection and gives up its slot.
func (c *slotConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// entries says how much the store holds.
func (s *store) entries(ctx context.Context) (metrics.StoreEntries, error) {
	switch kept := s.Store.(type) {
	case *boltstore.Store:
		n, err := kept.Stats(ctx)
		if err != nil {
			return metrics.StoreEntries{}, err
		}
		return metrics.StoreEntries{Policies: int(n.Records - n.Failures), Failures: int(n.Failures)}, nil
	case *memstore.Store:
		n := kept.Stats()
		return metrics.StoreEntries{Policies: n.Policies, Failures: n.Failures}, nil
	default:
		return metrics.StoreEntries{}, errors.New("a store that does not say how much it holds")
	}
}
