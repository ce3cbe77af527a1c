package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"tlspolicyd/cache"
)

// maxFailures is how many calls in a row fail before the database counts as out
// of reach.
const maxFailures = 3

// Status is the state of the connection to the database.
type Status struct {
	// Address is the URL of the configuration without the user.
	Address string
	// Up says that the database answers; Since is when that began, or ended.
	// Before the first contact it is not up since the store was opened.
	Up    bool
	Since time.Time
	// Err is why it is not up, or why it refuses what it is asked although it
	// is; nil if all is well.
	Err error
}

// state of the connection.
type state int

const (
	untried state = iota
	up
	down
)

// breaker knows whether the database is in reach, so that only few have to wait
// to find out that it is not. It opens after maxFailures failed calls in a row,
// and closes with a success of the probe; it never opens while nobody probes.
// Changes are logged, calls are not.
type breaker struct {
	log *zap.Logger

	mu       sync.Mutex // guards what follows
	state    state
	since    time.Time
	failures int
	err      error            // why it is down
	refused  map[string]error // what the server does not do, by the kind of call
	probed   bool
}

func newBreaker(log *zap.Logger) *breaker {
	return &breaker{log: log, since: time.Now(), refused: map[string]error{}}
}

// allow returns the reason not to ask the database, if there is one.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == down {
		return fmt.Errorf("%w: %w", cache.ErrUnavailable, b.err)
	}
	return nil
}

// probing says whether somebody calls probe from time to time.
func (b *breaker) probing(is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probed = is
	if !is && b.state == down {
		b.change(untried)
	}
}

// done counts a call of the kind op, of which allow had said nothing.
func (b *breaker) done(op string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch classify(err) {
	case answered:
		b.failures = 0
		b.refuse(op, nil)
	case refusal:
		b.failures = 0
		b.refuse(op, err)
	case outage:
		b.fail(err)
	}
}

// note takes note of what the server says to op, without counting the failures
// of an attempt.
func (b *breaker) note(op string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch classify(err) {
	case answered:
		b.refuse(op, nil)
	case refusal:
		b.refuse(op, err)
	}
}

// probe counts a try of the database, and reports whether that was its return.
func (b *breaker) probe(err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if classify(err) == outage {
		b.fail(err)
		return false
	}
	b.failures = 0
	if b.state == up {
		return false
	}
	back := b.state == down
	b.log.Info("the shared store is in reach", zap.Duration("after", time.Since(b.since)))
	b.change(up)
	return back
}

func (b *breaker) fail(err error) {
	b.failures++
	if b.state == down {
		b.err = err
	}
	if b.failures < maxFailures || b.state == down || !b.probed {
		return
	}
	b.err = err
	b.change(down)
	b.log.Warn("the shared store is out of reach; this relay goes on with what it knows itself", zap.Error(err))
}

func (b *breaker) change(s state) {
	b.state, b.since, b.failures = s, time.Now(), 0
	if s != down {
		b.err = nil
	}
}

// refuse notes that the server does, or does not do, what op asks of it.
func (b *breaker) refuse(op string, err error) {
	old := b.refused[op]
	switch {
	case err == nil && old != nil:
		delete(b.refused, op)
		b.log.Info("the shared store does again what it is asked", zap.String("op", op))
	case err != nil && old == nil:
		b.refused[op] = err
		b.log.Warn("the shared store refuses what it is asked", zap.String("op", op), zap.Error(err))
	}
}

func (b *breaker) status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Up: b.state == up, Since: b.since, Err: b.err}
	for _, op := range []string{opSubscribe, opRemove, opLoad, opSave} {
		if err := b.refused[op]; b.err == nil && err != nil {
			s.Err = err
		}
	}
	return s
}

// class is what an error says of the database.
type class int

const (
	answered class = iota // it does what it is asked
	refusal               // it answers, but does not do this
	outage                // it cannot be asked
	nothing               // who asked gave up
)

// noServer is how answers begin that every command gets: the server does not
// serve, or not us.
var noServer = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "ERR max number of clients"}

// classify says what an error says of the database.
func classify(err error) class {
	var answer redis.Error
	switch {
	case err == nil, errors.Is(err, cache.ErrNotFound), errors.Is(err, cache.ErrDamaged):
		return answered
	case errors.Is(err, errGivenUp):
		return nothing
	case !errors.As(err, &answer):
		return outage
	}
	for _, kind := range noServer {
		if strings.HasPrefix(answer.Error(), kind) {
			return outage
		}
	}
	return refusal
}

// errGivenUp: the context of the caller ended before the store could answer.
var errGivenUp = errors.New("given up")

// givenUp returns the error of a call whose caller has gone.
func givenUp(ctx context.Context) error {
	return fmt.Errorf("%w: %w", errGivenUp, context.Cause(ctx))
}
