package boltstore

import (
	"path/filepath"
	"testing"

	"go.uber.org/zap/zaptest"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
)

var _ cache.Store = (*Store)(nil)

// open opens a store that is closed at the end of the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// options are those of a store in a directory of the test's own.
func options(t testing.TB) Options {
	return Options{Path: filepath.Join(t.TempDir(), "state", "policies.db"), Log: zaptest.NewLogger(t)}
}

func TestContract(t *testing.T) {
	storetest.Run(t,
		func(t *testing.T) cache.Store { return open(t, options(t)) },
		storetest.WithLimit(ErrFull, func(t *testing.T) cache.Store {
			o := options(t)
			o.MaxBytes = 4 << 20
			return open(t, o)
		}),
		storetest.WithReopen(func(t *testing.T, s cache.Store) cache.Store {
			o := s.(*Store).o
			if err := s.(*Store).Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, o)
		}))
}
