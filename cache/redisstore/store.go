// Package redisstore is a cache.Shared in a database that speaks the protocol
// of Redis: Redis from version 6, or Valkey; one server, one that sentinels
// watch, or a cluster.
//
// What is kept of a domain is one string, which lives as long as the policy.
// What a value is stands in value.go, when one gives way to another in
// script.go. The database belongs to the operator, but what is in it may be of
// anybody who can write there: whatever is not exactly what this package would
// have written is cache.ErrDamaged, and is replaced by the next Save.
//
// No call waits longer than 250 ms in all, with 16 connections at most (to each
// node of a cluster). After 3 failed calls in a row, calls fail at once until a
// probe succeeds, which is tried each second and has 2 seconds.
//
// Limits: a value of 72 KiB; 10,000 news that nobody has asked for; from a
// server no string longer than 256 KiB. News get lost while the subscription is
// interrupted.
//
// Not here: whether a record is believed, and what becomes of one that could
// not be saved.
package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// The kinds of calls.
const (
	opLoad      = "load"
	opSave      = "save"
	opRemove    = "remove"
	opSubscribe = "subscribe"
)

// ops are all of them; a refusal of a later one says more.
var ops = [...]string{opSubscribe, opRemove, opLoad, opSave}

// Store is a database of records. It is made by [Open].
type Store struct {
	o       Options
	t       target
	id      string // tells our own messages from those of others
	dialer  *dialer
	breaker *breaker
	news    news
	seen    identity  // used by probe only
	renewed time.Time // the marker; used by probe only
	master  string    // that was told last; used by probe only

	mu     sync.RWMutex // guards what follows
	client redis.UniversalClient
}

// Open returns the store of a database. It does not wait for the database, and
// does not mind whether there is one: its errors are those of the options and
// of the files that they name.
func Open(o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.timeout == 0 {
		o.timeout = callTimeout
	}
	t, err := parseTarget(o.URL)
	if err != nil {
		return nil, err
	}
	if err := o.check(t); err != nil {
		return nil, err
	}
	if o.exposed() {
		o.Log.Warn("everybody on this machine can read the password of the shared store", zap.String("password_file", o.PasswordFile))
	}
	// The library logs to stderr, for the whole process, what its errors say
	// too. They come back from each call, so nothing is lost.
	redis.SetLogger(silence{})
	s := &Store{
		o: o, t: t, id: rand.Text(), news: newNews(),
		dialer:  &dialer{o: o, t: t},
		breaker: newBreaker(o.Log.With(zap.String("address", address(o.URL)))),
	}
	s.client = s.dialer.newClient()
	return s, nil
}

type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

func (s *Store) db() redis.UniversalClient {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.client
}

// renew replaces the client, and with it every connection.
func (s *Store) renew() {
	s.mu.Lock()
	old := s.client
	s.client = s.dialer.newClient()
	s.mu.Unlock()
	_ = old.Close() // what is closed is not used again
}

// Close closes the connections. It is called when Run has returned.
func (s *Store) Close() error { return s.db().Close() }

// Status returns the state of the connection.
func (s *Store) Status() Status {
	status := s.breaker.status()
	status.Address = address(s.o.URL)
	return status
}

func (s *Store) key(domain policy.Domain) string {
	return s.keys() + domain.String()
}

// keys is what the keys of values begin with. The version of their form is part
// of it: relays of two versions keep a value each.
func (s *Store) keys() string { return fmt.Sprintf("%spolicy:%d:", s.o.Prefix, valueVersion) }

func (s *Store) channel() string { return s.o.Prefix + "changed" }

// Load implements cache.Shared.
func (s *Store) Load(ctx context.Context, domain policy.Domain) (cache.Record, error) {
	var r cache.Record
	err := s.call(ctx, opLoad, func(ctx context.Context, db redis.UniversalClient) error {
		// One byte more than there can be: whoever sees it knows enough.
		value, err := db.GetRange(ctx, s.key(domain), 0, maxValue).Result()
		switch {
		case redis.HasErrorPrefix(err, "WRONGTYPE"):
			return fmt.Errorf("%w: no string", cache.ErrDamaged)
		case err != nil:
			return err
		case value == "":
			return cache.ErrNotFound
		}
		r, err = decodeValue([]byte(value), domain)
		return err
	})
	return r, err
}

// Save implements cache.Shared. A record that holds no policy, or one that has
// ended by the clock of the database, is of no use to others: nothing is done.
func (s *Store) Save(ctx context.Context, r cache.Record) error {
	if !hasPolicy(&r) {
		return nil
	}
	value, err := encodeValue(&r)
	if err != nil {
		return err
	}
	return s.call(ctx, opSave, func(ctx context.Context, db redis.UniversalClient) error {
		return saveScript.Run(ctx, db, []string{s.key(r.Domain)}, value, r.Fetched.Unix(), r.Expires.UnixMilli(),
			int64(maxAhead.Seconds()), s.channel(), message(s.id, r.Domain)).Err()
	})
}

// Remove implements cache.Shared.
func (s *Store) Remove(ctx context.Context, domain policy.Domain) error {
	return s.call(ctx, opRemove, func(ctx context.Context, db redis.UniversalClient) error {
		return db.Unlink(ctx, s.key(domain)).Err()
	})
}

// call asks the database, unless it is known to be out of reach.
func (s *Store) call(ctx context.Context, op string, ask func(context.Context, redis.UniversalClient) error) error {
	if err := s.breaker.allow(); err != nil {
		return err
	}
	begun := time.Now()
	err := s.try(ctx, s.o.timeout, func(ctx context.Context) error { return ask(ctx, s.db()) })
	s.breaker.done(op, begun, err)
	if isReplica(err) {
		s.dialer.doubt()
	}
	return err
}

// try asks the database within a time.
func (s *Store) try(ctx context.Context, within time.Duration, ask func(context.Context) error) (err error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	defer func() {
		if ctx.Err() != nil && err != nil {
			err = givenUp(ctx)
		}
	}()
	return s.explained(safely(func() error { return ask(limited) }))
}

// safely turns a panic of the library, which believes the form of an answer,
// into an error.
func safely(ask func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errNotRedis, p)
		}
	}()
	return ask()
}

// explained adds to an error what somebody needs to know who reads it, and takes
// away what he must not.
func (s *Store) explained(err error) error {
	err = s.dialer.discreet(err)
	if _, moved := redis.IsMovedError(err); moved && !s.t.cluster {
		return fmt.Errorf("the server belongs to a cluster, for which the URL begins with %s+cluster://: %w",
			strings.TrimSuffix(s.o.URL.Scheme, "+sentinel"), err)
	}
	if redis.HasErrorPrefix(err, "WRONGPASS") {
		return s.dialer.named(err)
	}
	return err
}
