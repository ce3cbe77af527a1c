package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"tlspolicyd/internal/config"
)

// keyLogLevel is the key that takes effect without a restart.
const keyLogLevel = "log.level"

// reloader reads again what may change while the daemon runs: the level of the
// log and the root certificates. Connections and what is remembered are not
// touched.
type reloader struct {
	log     *zap.Logger
	level   zap.AtomicLevel
	manager manager
	// hangup says when to reload.
	hangup <-chan os.Signal
	// load reads the configuration.
	load func() (*config.Config, error)
	// roots reads the root certificates again.
	roots func() error
	// started is the configuration with which the daemon was started.
	started *config.Config
	// status is what the manager is told when all is well.
	status string
}

// catchHangup keeps SIGHUP from ending the process, also while it starts.
// Several that come at once are one.
func catchHangup() chan os.Signal {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	return hangup
}

// onHangup reloads at every signal until ctx ends.
func (r *reloader) onHangup(ctx context.Context) {
	for {
		select {
		case <-r.hangup:
			r.reload()
		case <-ctx.Done():
			return
		}
	}
}

func (r *reloader) reload() {
	r.manager.reloading()
	status := r.status
	if err := errors.Join(r.reloadConfig(), r.reloadRoots()); err != nil {
		status = "Reload failed, what was in effect stays: " + firstLine(err)
	}
	r.manager.ready(status)
}

// reloadConfig puts into effect what can be. With an error in the file nothing
// changes.
func (r *reloader) reloadConfig() error {
	c, err := r.load()
	if err != nil {
		r.log.Error("the configuration cannot be used; the one in effect stays", zap.Error(err))
		return err
	}
	var level zapcore.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		r.log.Error("the level of the log is unknown; the one in effect stays", zap.Error(err))
		return err
	}
	r.level.SetLevel(level)
	differ := config.Differ(r.started, c)
	differ = slices.DeleteFunc(differ, func(key string) bool { return key == keyLogLevel })
	if len(differ) > 0 {
		r.log.Warn("these keys have changed and take effect at the next restart", zap.Strings("keys", differ))
	}
	r.log.Info("configuration read again", zap.String("level", string(c.Log.Level)))
	return nil
}

func (r *reloader) reloadRoots() error {
	if err := r.roots(); err != nil {
		r.log.Error("root certificates could not be read; the old ones stay", zap.Error(err))
		return err
	}
	r.log.Info("root certificates read again")
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
