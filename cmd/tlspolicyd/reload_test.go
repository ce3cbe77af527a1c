package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/internal/config"
)

func TestReload(t *testing.T) {
	unreadable := errors.New("permission denied\nsecond line")
	changed := func(change func(*config.Config)) func() (*config.Config, error) {
		return func() (*config.Config, error) {
			c := config.Default()
			change(c)
			return c, nil
		}
	}
	works := func() error { return nil }
	const answering, failed = "Answering", "Reload failed, what was in effect stays: "
	tests := []struct {
		name   string
		load   func() (*config.Config, error)
		roots  func() error
		level  string
		status string
		// restart are the keys that wait for a restart.
		restart []string
	}{
		{"nothing has changed", changed(func(*config.Config) {}), works, "info", answering, nil},
		{"the level", changed(func(c *config.Config) { c.Log.Level = config.LevelDebug }), works, "debug", answering, nil},
		{"the level and more", changed(func(c *config.Config) {
			c.Log.Level, c.SmartHosts, c.Cache.Memory = config.LevelError, false, 5
		}), works, "error", answering, []string{"smart_hosts", "cache.memory"}},
		{"an error in the file", func() (*config.Config, error) { return nil, unreadable }, works,
			"info", failed + "permission denied", nil},
		{"no root certificates", changed(func(c *config.Config) { c.Log.Level = config.LevelWarn }),
			func() error { return errors.New("no certificate in it") }, "warn", failed + "no certificate in it", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			systemd := startManager(t)
			core, logged := observer.New(zap.DebugLevel)
			log := zap.New(core)
			r := &reloader{
				log: log, level: zap.NewAtomicLevel(), manager: manager{log}, load: tt.load, roots: tt.roots,
				started: config.Default(), status: answering,
			}
			r.reload()
			for _, want := range []string{"RELOADING=1", "READY=1\nSTATUS=" + tt.status} {
				if got := systemd.next(t); got != want {
					t.Errorf("told %q, want %q", got, want)
				}
			}
			if got := r.level.String(); got != tt.level {
				t.Errorf("the level is %s, want %s", got, tt.level)
			}
			var restart []string
			for _, entry := range logged.FilterMessage("these keys have changed and take effect at the next restart").All() {
				for _, key := range entry.ContextMap()["keys"].([]any) {
					restart = append(restart, key.(string))
				}
			}
			if !slices.Equal(restart, tt.restart) {
				t.Errorf("said to wait for a restart: %q, want %q", restart, tt.restart)
			}
			wrong := logged.FilterLevelExact(zap.ErrorLevel).Len() > 0
			if wrong != strings.HasPrefix(tt.status, failed) {
				t.Errorf("errors in the log: %v", wrong)
			}
		})
	}
}
