package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/cache/boltstore"
	"tlspolicyd/cache/memstore"
	"tlspolicyd/internal/config"
)

// purgeInterval is the time between two searches of the store for what is of
// no more use.
const purgeInterval = 5 * time.Minute

// store is what the memory of the daemon rests on.
type store struct {
	cache.Store
	purge func(ctx context.Context, now time.Time) (int, error)
	close func() error
	path  string // of the file; empty where there is none
	limit int64  // the most that it may hold, in bytes
}

// openStore opens the file of the configuration; with cache.file "none" what is
// learned is gone when the daemon ends.
func openStore(ctx context.Context, c *config.Cache, log *zap.Logger) (*store, error) {
	if _, wanted := c.StoreFile(""); !wanted {
		s := memstore.New(memstore.Options{MaxBytes: int64(c.Disk)})
		return &store{Store: s, purge: s.Purge, close: func() error { return nil }, limit: int64(c.Disk)}, nil
	}
	path := c.File
	if path == "" {
		dir, err := config.StateDir(os.Getenv, os.Getuid())
		if err != nil {
			return nil, fmt.Errorf("cache.file: %w", err)
		}
		path, _ = c.StoreFile(dir)
	}
	s, err := boltstore.Open(ctx, boltstore.Options{Path: path, MaxBytes: int64(c.Disk), Log: log})
	if err != nil {
		return nil, fmt.Errorf("cache.file: %w", err)
	}
	return &store{Store: s, purge: s.Purge, close: s.Close, path: path, limit: int64(c.Disk)}, nil
}

// run removes from the store what can be of no more use, until ctx ends.
func (s *store) run(ctx context.Context, log *zap.Logger) {
	ticker := time.NewTicker(purgeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.sweep(ctx, log)
		}
	}
}

// sweep purges step by step until there is nothing left to purge.
func (s *store) sweep(ctx context.Context, log *zap.Logger) {
	for ctx.Err() == nil {
		n, err := s.purge(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			log.Warn("what is of no more use stays in the store for now", zap.Error(err))
		}
		if n == 0 || err != nil {
			return
		}
	}
}
