package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/cache/redisstore"
	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/config"
)

// shared is the store of a fleet; the zero value is a relay that is alone.
type shared struct {
	db  *redisstore.Store
	log *zap.Logger
}

// openShared prepares the shared store of the configuration. It asks nobody: a
// database that is out of reach holds no start up.
func openShared(c *config.Shared, log *zap.Logger) (shared, error) {
	if c.URL == nil {
		return shared{}, nil
	}
	db, err := redisstore.Open(redisstore.Options{
		URL: c.URL, PasswordFile: c.PasswordFile, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Prefix: c.Prefix, Log: log,
	})
	if err != nil {
		return shared{}, fmt.Errorf("cache.shared: %w", err)
	}
	return shared{db, log}, nil
}

// tier is what the cache is given: nothing where there is none.
func (s shared) tier() cache.Shared {
	if s.db == nil {
		return nil
	}
	return s.db
}

// run keeps in touch with the database until ctx ends.
func (s shared) run(ctx context.Context) {
	if s.db == nil {
		return
	}
	if err := s.db.Run(ctx); !errors.Is(err, context.Canceled) {
		s.log.Error("the shared store is given up; this relay goes on alone", zap.Error(err))
	}
}

func (s shared) close() error {
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}

// up reports whether the database can be reached.
func (s shared) up() bool { return s.db.Status().Up }

// view is what the operator is shown; nil where there is no shared store.
func (s shared) view() *admin.SharedStore {
	if s.db == nil {
		return nil
	}
	st := s.db.Status()
	v := &admin.SharedStore{Address: st.Address, Up: st.Up}
	if !st.Since.IsZero() {
		v.Since = st.Since.UTC().Truncate(time.Second)
	}
	if st.Err != nil {
		v.Error = st.Err.Error()
	}
	return v
}
