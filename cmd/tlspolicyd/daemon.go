package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/internal/config"
	"tlspolicyd/internal/metrics"
	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
)

// shutdownGrace is how long questions in progress may take to be answered
// once the daemon was told to stop; the unit has systemd kill after 45 s.
const shutdownGrace = 15 * time.Second

// daemon is the running program: the three pillars, joined.
type daemon struct {
	log    *zap.Logger
	dns    *dnsclient.Client // whose servers are tested; nil where DANE is not looked at
	sts    *mtasts.Resolver
	store  *store
	shared shared
	cache  *cache.Cache
	server *socketmap.Server

	metrics *metrics.Metrics
	http    config.Address // of the pages for monitoring; may be none
	ready   atomic.Bool    // Postfix is answered
	office  office
}

// facts is how the cache finds things out: MTA-STS from one package, DANE from
// another.
type facts struct {
	*mtasts.Resolver
	hosts *dane.Resolver // nil where DANE is not looked at
}

// DANE looks up the fact of a next-hop.
func (f facts) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	if f.hosts == nil {
		return policy.Off(time.Now())
	}
	return f.hosts.DANE(ctx, hop, prev)
}

// newDaemon builds the daemon from the bottom up: DNS, what is found out
// through it, the memory, the answers.
func newDaemon(ctx context.Context, c *config.Config, log *zap.Logger) (*daemon, error) {
	counts := metrics.New(metrics.Options{Version: programVersion(), Log: log.Named("metrics")})
	resolver, err := newDNS(c, counts, log)
	if err != nil {
		return nil, err
	}
	sts, err := newSTS(c, resolver, counts, log)
	if err != nil {
		return nil, err
	}
	find := facts{Resolver: sts}
	var tested *dnsclient.Client
	if c.DANE.Enabled {
		find.hosts, tested = dane.New(resolver), resolver
	}
	kept, err := openStore(ctx, &c.Cache, log.Named("store"))
	if err != nil {
		return nil, err
	}
	fleet, err := openShared(&c.Cache.Shared, log.Named("shared"))
	if err != nil {
		return nil, errors.Join(err, kept.close())
	}
	memory, err := cache.New(cache.Options{
		Store:        kept,
		Shared:       fleet.tier(),
		Resolver:     find,
		Parse:        mtasts.ParsePolicy,
		Memory:       c.Cache.Memory,
		AnswerWithin: c.STS.AnswerWithin,
		Recheck:      c.Cache.Recheck,
		Idle:         c.Cache.Idle,
		Log:          log.Named("cache"),
		Metrics:      counts,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cache: %w", err), fleet.close(), kept.close())
	}
	handler := policymap.New(memory, policymap.Options{
		Keys:    policymap.KeyRules{NoSmartHosts: !c.SmartHosts},
		Log:     log.Named("policymap"),
		Metrics: counts,
	})
	server := &socketmap.Server{Handler: handler, Log: log.Named("socketmap"), Metrics: counts}
	counts.WatchCache(memory.Entries)
	counts.WatchStore(kept.entries)
	if fleet.db != nil {
		counts.WatchShared(fleet.up)
	}
	return &daemon{
		log: log, dns: tested, sts: sts, store: kept, shared: fleet, cache: memory, server: server,
		metrics: counts, http: c.Admin.HTTP,
		office: office{config: c, started: time.Now(), resolver: resolver},
	}, nil
}

// listen opens every address of the configuration, or none.
func listen(c *config.Config, log *zap.Logger) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range c.Listen {
		l, err := socketmap.Listen(address.String(), c.SocketMode)
		if err != nil {
			return nil, errors.Join(inTheWay(err, address, listeners), closeAll(listeners))
		}
		warnExposed(l, log)
		listeners = append(listeners, l)
	}
	if len(listeners) == 0 {
		return nil, errors.New("nothing to listen on: the configuration names no address")
	}
	return listeners, nil
}

// inTheWay adds to the error of an address that is in use which of the other
// listeners has it: nobody has to look for another program.
func inTheWay(err error, address config.Address, listeners []net.Listener) error {
	for _, l := range listeners {
		switch have := l.Addr().(type) {
		case *net.TCPAddr:
			if errors.Is(err, syscall.EADDRINUSE) && address.Network == "tcp" && overlap(address, have) {
				return fmt.Errorf("%w, by %s of the same configuration", err, have)
			}
		case *net.UnixAddr:
			if errors.Is(err, socketmap.ErrInUse) && address.Path == have.Name {
				return fmt.Errorf("%w: it is a socket of the policy map", err)
			}
		}
	}
	return err
}

// overlap reports whether who listens at have keeps others from an address.
func overlap(address config.Address, have *net.TCPAddr) bool {
	want, err := net.ResolveTCPAddr("tcp", address.String())
	return err == nil && want.Port == have.Port &&
		(want.IP == nil || want.IP.IsUnspecified() || have.IP.IsUnspecified() || want.IP.Equal(have.IP))
}

// run serves until ctx ends or a listener fails, and then takes everything
// down in the reverse order of its making: no new questions, those in progress
// are answered, refresh ends, flights are awaited, the store is closed. Who
// monitors it sees it from before the beginning to after the end.
func (d *daemon) run(ctx context.Context, listeners []net.Listener) error {
	defer d.watch(ctx)()
	d.office.listeners = listeners
	stopAdmin := d.administer(ctx)
	refreshing, stopRefresh := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRefresh()
	failed := make(chan error, len(listeners))
	var serving, background sync.WaitGroup
	for _, l := range listeners {
		d.log.Info("listening", zap.Stringer("address", l.Addr()))
		serving.Go(func() {
			if err := d.server.Serve(l); !errors.Is(err, socketmap.ErrServerClosed) {
				failed <- err
			}
		})
	}
	d.ready.Store(true)
	background.Go(func() {
		if err := d.cache.Run(refreshing); !errors.Is(err, context.Canceled) {
			d.log.Error("refreshing policies ended; policies still hold to their end", zap.Error(err))
		}
	})
	background.Go(func() { d.store.run(refreshing, d.log) })
	background.Go(func() { d.shared.run(refreshing) })
	if d.dns != nil {
		background.Go(func() { _ = d.dns.Run(refreshing) }) // ends with its context only
	}

	var err error
	select {
	case <-ctx.Done():
		d.log.Info("stopping")
	case err = <-failed:
		d.log.Error("a listener failed", zap.Error(err))
	}
	d.ready.Store(false)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	err = errors.Join(err, d.server.Shutdown(grace))
	serving.Wait()
	stopAdmin()
	stopRefresh()
	background.Wait()
	return errors.Join(err, d.cache.Close(grace), d.shared.close(), d.store.close())
}

// logTo returns the logger of the configuration, writing to f, and its level,
// which can be changed.
func logTo(f *os.File, c config.Log, env func(string) string) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(string(c.Level))
	if err != nil {
		return nil, level, err
	}
	return newLogger(f, level, logFormat(string(c.Format), f, env)), level, nil
}
