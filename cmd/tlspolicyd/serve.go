package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"tlspolicyd/internal/config"
	"tlspolicyd/internal/garbage"
)

func newServeCommand(file *configFile) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Run the daemon: answer Postfix's TLS policy map until SIGTERM or SIGINT.\n\n" +
			"Sockets that systemd hands over are used instead of the configured ones.\n\n" +
			"SIGHUP makes it read the configuration and the root certificates again: the level\n" +
			"of the log takes effect at once; for every other key that has changed, the log says\n" +
			"that it takes a restart.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), file.load)
		},
	}
}

// serve runs the daemon until SIGTERM or SIGINT. load reads the configuration,
// now and at every SIGHUP.
func serve(ctx context.Context, load func() (*config.Config, error)) error {
	c, err := load()
	if err != nil {
		return err
	}
	log, level, err := logTo(os.Stderr, c.Log, os.Getenv)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error has nothing to sync
	signal.Ignore(syscall.SIGPIPE)    // who reads the log may end; mail goes on
	defer garbage.Tune()()
	log.Info("starting", zap.String("version", programVersion()))
	hangup := catchHangup()
	defer signal.Stop(hangup)
	d, err := newDaemon(ctx, c, log)
	if err != nil {
		return err
	}
	listeners, err := openListeners(c, log)
	if err != nil {
		return errors.Join(err, d.store.close())
	}
	return d.managed(ctx, listeners, &reloader{
		log: log, level: level, manager: manager{log}, hangup: hangup, load: load, roots: d.sts.ReloadRoots,
		started: c, status: statusLine(listeners),
	})
}

// managed runs the daemon and attends to signals and the service manager.
func (d *daemon) managed(ctx context.Context, listeners []net.Listener, r *reloader) error {
	running, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	guarded, end := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	defer beside.Wait()
	defer end()
	defer stop()
	beside.Go(func() {
		r.onHangup(running)
		r.manager.stopping()
	})
	// Until the last answer is given: that may take longer than the interval.
	beside.Go(func() { r.manager.watchdog(guarded, d.alive) })
	r.manager.ready(r.status)
	return d.run(running, listeners)
}

// alive returns if the memory can be asked: no lock is held for ever.
func (d *daemon) alive() { d.cache.Entries() }

// openListeners returns the sockets of systemd, or, if there are none, opens
// those of the configuration.
func openListeners(c *config.Config, log *zap.Logger) ([]net.Listener, error) {
	listeners, err := socketsOfSystemd(log)
	if err != nil {
		return nil, err
	}
	if len(listeners) > 0 {
		warnUnused(c.Listen, listeners, log)
		return listeners, nil
	}
	return listen(c, log)
}

// statusLine says where questions are answered.
func statusLine(listeners []net.Listener) string {
	addresses := make([]string, len(listeners))
	for i, l := range listeners {
		addresses[i] = l.Addr().String()
	}
	return "Answering on " + strings.Join(addresses, ", ")
}
