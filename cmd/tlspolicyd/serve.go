package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"tlspolicyd/internal/config"
)

func newServeCommand(file *configFile) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the daemon",
		Long: "Run the daemon: answer Postfix's TLS policy map until SIGTERM or SIGINT.\n\n" +
			"SIGHUP makes it read the root certificates again.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := file.load()
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c)
		},
	}
}

// serve runs the daemon until SIGTERM or SIGINT. SIGHUP reads the root
// certificates again.
func serve(ctx context.Context, c *config.Config) error {
	log, err := logTo(os.Stderr, c.Log, os.Getenv)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error has nothing to sync
	log.Info("starting", zap.String("version", programVersion()))
	d, err := newDaemon(ctx, c, log)
	if err != nil {
		return err
	}
	listeners, err := listen(c, log)
	if err != nil {
		return errors.Join(err, d.store.close())
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	var reloading sync.WaitGroup
	reloading.Go(func() { reloadOnHangup(ctx, d) })
	defer reloading.Wait()
	defer stop()
	return d.run(ctx, listeners)
}

// reloadOnHangup reloads at every SIGHUP until ctx ends.
func reloadOnHangup(ctx context.Context, d *daemon) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			d.reload()
		case <-ctx.Done():
			return
		}
	}
}
