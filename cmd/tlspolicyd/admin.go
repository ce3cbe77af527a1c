package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache/boltstore"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/config"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/socketmap"
)

// adminMode and adminDirMode are the permissions of the admin socket and of the
// directory that is made for it. Those of the socket are what keeps others out.
const (
	adminMode    = 0o600
	adminDirMode = 0o755
)

// office is what the daemon tells its operator of itself.
type office struct {
	config    *config.Config
	started   time.Time
	resolver  *dnsclient.Client
	listeners []net.Listener
}

// adminSocket returns the path of the admin socket.
func adminSocket(c *config.Config) (string, error) {
	if c.Admin.Socket != "" {
		return c.Admin.Socket, nil
	}
	dir, err := config.RuntimeDir(os.Getenv, os.Getuid())
	if err != nil {
		return "", fmt.Errorf("admin.socket: %w", err)
	}
	return c.Admin.SocketPath(dir), nil
}

// administer answers the operator on the admin socket until the function that
// it returns is called. That it cannot is a warning: mail matters more.
func (d *daemon) administer(ctx context.Context) (stop func()) {
	server, err := d.adminServer()
	var l net.Listener
	if err == nil {
		l, err = listenAdmin(d.office.config, d.office.listeners)
	}
	if err != nil {
		d.log.Warn("no admin socket: the commands cache and status cannot ask this daemon; mail is not affected", zap.Error(err))
		return func() {}
	}
	d.log.Info("answering the operator", zap.Stringer("socket", l.Addr()))
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(within, newFewConns(l, httpConns)); err != nil {
			d.log.Error("the operator is not answered any more; mail is not affected", zap.Error(err))
		}
	})
	return func() {
		cancel()
		serving.Wait()
	}
}

func (d *daemon) adminServer() (*admin.Server, error) {
	return admin.New(admin.Options{
		Cache:  d.cache,
		Store:  d.store,
		Parse:  mtasts.ParsePolicy,
		Status: d.status,
		Pages:  func(mux *http.ServeMux) { d.metrics.Mount(mux, d.ready.Load) },
		Log:    d.log.Named("admin"),
	})
}

// listenAdmin opens the admin socket, and makes its directory if there is none.
func listenAdmin(c *config.Config, others []net.Listener) (net.Listener, error) {
	path, err := adminSocket(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), adminDirMode); err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	l, err := socketmap.Listen("unix:"+path, adminMode)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", inTheWay(err, config.Address{Network: "unix", Path: path}, others))
	}
	return l, nil
}

// status says how the daemon is.
func (d *daemon) status() admin.Status {
	s := admin.Status{
		Version: programVersion(),
		Started: d.office.started.UTC().Truncate(time.Second),
		Now:     time.Now().UTC().Truncate(time.Second),
		DANE:    d.office.config.DANE.Enabled,
		Stats:   d.stats(),
	}
	for _, l := range d.office.listeners {
		s.Listeners = append(s.Listeners, addressOf(l))
	}
	for _, server := range d.office.resolver.Servers() {
		tested := server.Tested
		if !tested.IsZero() {
			tested = tested.UTC().Truncate(time.Second)
		}
		s.DNS = append(s.DNS, admin.DNSServer{
			Address: server.Addr.String(), Trusted: server.Trusted,
			Test: server.Outcome.String(), Detail: server.Detail, Tested: tested,
		})
	}
	return s
}

// addressOf returns the address of a listener as the configuration writes it.
func addressOf(l net.Listener) string {
	if a, ok := l.Addr().(*net.UnixAddr); ok {
		return "unix:" + a.Name
	}
	return l.Addr().String()
}

// stats says how much is remembered.
func (d *daemon) stats() admin.Stats {
	n := d.cache.Entries()
	s := admin.Stats{
		Policies: n.Policies, Absences: n.Absences,
		Unwritten: n.Unwritten, Unshared: n.Unshared, Overdue: n.Overdue, Expiring: n.Expiring,
	}
	if t := d.cache.StoreTrouble(); t.Err != nil {
		s.LastStoreError = &admin.StoreError{At: t.At.UTC().Truncate(time.Second), Op: t.Op, Error: t.Err.Error()}
	}
	s.Shared = d.shared.view()
	return s
}

// errNoList says that a store cannot say how much it holds.
var errNoList = errors.New("this store cannot say how much it holds")

// StoreStats says how much the store holds.
func (s *store) StoreStats(ctx context.Context) (admin.StoreStats, error) {
	switch kept := s.Store.(type) {
	case *boltstore.Store:
		st := admin.StoreStats{Kind: "file", Path: s.path, Limit: s.limit}
		n, err := kept.Stats(ctx)
		if err != nil {
			return st, err
		}
		st.Policies, st.Failures = n.Records-n.Failures, n.Failures
		st.Bytes, st.File, st.ReadOnly, st.Damaged = n.Bytes, n.File, n.ReadOnly, n.Damaged
		return st, nil
	case *memstore.Store:
		n := kept.Stats()
		return admin.StoreStats{
			Kind: "memory", Limit: s.limit,
			Policies: int64(n.Policies), Failures: int64(n.Failures), Bytes: n.Bytes,
		}, nil
	default:
		return admin.StoreStats{}, errNoList
	}
}
