package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"tlspolicyd/cache"
)

const (
	// maxFailures is how many calls in a row fail before the database counts as
	// out of reach.
	maxFailures = 3
	// repeatAfter is how soon the log is told the same again.
	repeatAfter = time.Minute
)

// Status is the state of the connection to the database.
type Status struct {
	// Address is the URL of the configuration without the user.
	Address string
	// Up says that the database answers; Since is when that began, or ended.
	// Before the first contact it is not up since the store was opened.
	Up    bool
	Since time.Time
	// Err is why it is not up, or what is wrong although it is: it refuses what it
	// is asked, or has another time; nil if all is well.
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
// What does not count: a call that got no connection, as too many others had
// one, and a call that failed while another was answered.
// Changes are logged, calls are not.
type breaker struct {
	log *zap.Logger

	mu       sync.Mutex // guards what follows
	state    state
	since    time.Time
	before   time.Duration // how long the state before had lasted
	failures int
	answered time.Time // when the last call was
	err      error     // why it is down
	probed   bool
	reach    teller
	ops      map[string]*duty // by the kind of call
	time     duty             // to go with our clock
}

// duty is whether the server does what it is asked: down means that it does not.
type duty struct {
	err error
	teller
}

// teller keeps what flaps from filling the log.
type teller struct {
	told state
	at   [down + 1]time.Time // when each state was told
}

// due reports whether to log that s is the state, and takes that for done.
func (t *teller) due(s state) bool {
	if s == t.told || s == untried || time.Since(t.at[s]) < repeatAfter {
		return false
	}
	if t.told != untried { // the first contact is no return
		t.at[s] = time.Now()
	}
	t.told = s
	return true
}

func newBreaker(log *zap.Logger) *breaker {
	b := &breaker{log: log, since: time.Now(), ops: map[string]*duty{}, time: duty{teller: teller{told: up}}}
	for _, op := range ops {
		b.ops[op] = &duty{teller: teller{told: up}}
	}
	return b
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
func (b *breaker) done(op string, begun time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heed(op, err)
	switch classify(err) {
	case answered, refusal:
		b.failures, b.answered = 0, time.Now()
	case outage:
		b.fail(begun, err)
	}
	b.report()
}

// note takes note of what the server says to op, without counting the failures
// of an attempt.
func (b *breaker) note(op string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heed(op, err)
	b.report()
}

// clock takes note of how far the clock of the server is ahead of ours. More than
// what a fetch may lie ahead, and records are not taken for what they are.
func (b *breaker) clock(ahead time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.time.err = nil
	switch off := ahead.Abs().Round(time.Second); {
	case ahead > maxAhead:
		b.time.err = fmt.Errorf("its clock is %v ahead of that of this relay", off)
	case ahead < -maxAhead:
		b.time.err = fmt.Errorf("its clock is %v behind that of this relay", off)
	}
	b.report()
}

func (b *breaker) heed(op string, err error) {
	switch classify(err) {
	case answered:
		b.ops[op].err = nil
	case refusal:
		b.ops[op].err = err
	}
}

// probe counts a try of the database, and reports whether that was its return.
func (b *breaker) probe(begun time.Time, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.report()
	switch classify(err) {
	case outage:
		b.fail(begun, err)
		return false
	case nothing:
		return false
	}
	back := b.state == down
	b.failures, b.answered = 0, time.Now()
	if b.state != up {
		b.change(up)
	}
	return back
}

func (b *breaker) fail(begun time.Time, err error) {
	if b.answered.After(begun) {
		return
	}
	b.failures++
	if b.state == down {
		b.err = err
	}
	if b.failures < maxFailures || b.state == down || !b.probed {
		return
	}
	b.change(down)
	b.err = err
}

func (b *breaker) change(s state) {
	b.before = time.Since(b.since)
	b.state, b.since, b.failures, b.err = s, time.Now(), 0, nil
}

// report logs what has changed.
func (b *breaker) report() {
	switch {
	case !b.reach.due(b.state):
	case b.state == up:
		b.log.Info("the shared store is in reach", zap.Duration("after", b.before))
	default:
		b.log.Warn("the shared store is out of reach; this relay goes on with what it knows itself", zap.Error(b.err))
	}
	b.reportDuties()
}

func (b *breaker) reportDuties() {
	for _, op := range ops {
		switch d := b.ops[op]; {
		case d.err == nil && d.due(up):
			b.log.Info("the shared store does again what it is asked", zap.String("op", op))
		case d.err != nil && d.due(down):
			b.log.Warn("the shared store refuses what it is asked", zap.String("op", op), zap.Error(d.err))
		}
	}
	switch d := &b.time; {
	case d.err == nil && d.due(up):
		b.log.Info("the clocks of the shared store and of this relay agree again")
	case d.err != nil && d.due(down):
		b.log.Warn("the clocks of the shared store and of this relay differ", zap.Error(d.err))
	}
}

func (b *breaker) status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Up: b.state == up, Since: b.since, Err: cmp.Or(b.err, b.time.err)}
	for _, op := range ops {
		if err := b.ops[op].err; b.err == nil && err != nil {
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
	nothing               // it was not asked: the caller has gone, or too many are asking
)

// noServer is how answers begin that every command gets: the server does not
// serve, or not us.
var noServer = []string{
	"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "DENIED",
	"ERR DB index", "ERR SELECT is not allowed", "ERR max number of clients", "ERR unknown command 'auth'", "ERR unknown command `auth`",
}

// classify says what an error says of the database.
func classify(err error) class {
	var answer redis.Error
	switch {
	case err == nil, errors.Is(err, cache.ErrNotFound), errors.Is(err, cache.ErrDamaged):
		return answered
	case errors.Is(err, errGivenUp), errors.Is(err, redis.ErrPoolTimeout):
		return nothing
	case !errors.As(err, &answer), errors.Is(err, errNoMaster):
		return outage
	}
	text := answer.Error()
	if slices.ContainsFunc(noServer, func(kind string) bool { return strings.HasPrefix(text, kind) }) || isBarred(text) {
		return outage
	}
	return refusal
}

// isBarred reports whether an answer says that the user has no right to the number
// of the database, without which there is no connection.
func isBarred(text string) bool {
	return strings.HasPrefix(text, "NOPERM") && strings.Contains(text, "'select'")
}

// errGivenUp: the context of the caller ended before the store could answer.
var errGivenUp = errors.New("given up")

// givenUp returns the error of a call whose caller has gone.
func givenUp(ctx context.Context) error {
	return fmt.Errorf("%w: %w", errGivenUp, context.Cause(ctx))
}
