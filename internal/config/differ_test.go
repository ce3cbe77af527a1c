package config_test

import (
	"slices"
	"testing"
	"time"

	"tlspolicyd/internal/config"
)

func TestDiffer(t *testing.T) {
	tests := []struct {
		name   string
		change func(c *config.Config)
		want   []string
	}{
		{"nothing", func(*config.Config) {}, nil},
		{"one key", func(c *config.Config) { c.Log.Level = config.LevelDebug }, []string{"log.level"}},
		{"a list", func(c *config.Config) { c.Listen = nil }, []string{"listen"}},
		{"several, in the order of the file", func(c *config.Config) {
			c.Cache.Idle, c.SmartHosts, c.DNS.Timeout = time.Hour, false, time.Second
		}, []string{"smart_hosts", "dns.timeout", "cache.idle"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changed := config.Default()
			tt.change(changed)
			if got := config.Differ(config.Default(), changed); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
