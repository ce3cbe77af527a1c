// Package cache remembers what was found out about domains, and decides from
// it: it answers every question of the policy map, from memory where it can,
// and else from the store and the network.
//
// A question never waits for a fact that it does not need. A policy in force
// answers at once, whatever the network is doing. Everybody who needs a fact
// that is not known waits for one flight, the lookup of that fact; a flight
// belongs to the cache and not to who asked first. Facts are written to the
// store before they are first answered, and are refreshed before they end,
// whether anybody asks or not.
//
// The relays of a fleet tell each other what they fetched, through a shared
// store: what comes from there is judged in belief.go, what goes there waits in
// outbox.go and goes with share.go, and news.go follows what changes.
//
// The package does not know what a policy looks like, how a TXT record is
// looked up or when a fact is due: the resolver puts all of that into the
// facts, and the cache compares them with the clock.
//
// Limits: Options.Memory policies of on average 4 KiB, text and all, and as
// many absences of 1 KiB, each with the DANE facts of at most 8 next-hops; 4,096
// looks and DANE lookups, 64 records that are read, Options.FirstFetches first
// fetches and Options.Refreshes refreshes at a time; 50 refreshes started per
// second; 10,000 facts, of 40 MB together, that the store would not take, and
// 20,000 domains that the shared one is to be told of; 64 pieces of news that
// are followed at a time; 5 s for one access to the store; a domain whose record
// cannot be read is deferred for at most 60 s.
//
// Specifications: RFC 8461 (sections 3.3, 5.1 and 10.2: when a policy that was
// fetched applies, and when it is fetched again), RFC 7672 (section 2.1.2: what
// cannot be looked up is not absent).
package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// Resolver finds facts out. Each call takes one step on the network and makes
// the next fact from the previous one; what is still true is carried over.
// None of them fails: what cannot be known is said in the fact.
type Resolver interface {
	// Look asks for the TXT record. If a policy is to be fetched now, the
	// fact that comes back has Wanted set.
	Look(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS
	// Fetch fetches the policy over HTTPS, for prev.Wanted, or as a refresh
	// when that is empty. A success replaces the policy, a failure never does.
	// If there is no place for the fetch, policy and failure come back as they
	// were; a refresh then says in Refresh when it is to be tried again.
	Fetch(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS
	// Adopt makes the fact that a fetch would have brought that another relay
	// made at a past time; only the time of the next fetch is our own.
	Adopt(prev policy.STS, p *policy.STSPolicy, id string, fetched time.Time) policy.STS
	// DANE looks up the MX hosts and their TLSA records.
	DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE
}

// Options say what a Cache works with. Store, Resolver and Parse are needed;
// every other zero field stands for its default.
type Options struct {
	Store    Store
	Resolver Resolver
	// Shared is the store of a fleet; nil means that this relay is alone.
	Shared Shared
	// Parse reads the text of a policy that comes from a store. Memory keeps
	// what it returns, and nothing else should be kept by that.
	Parse func(text string) (*policy.STSPolicy, error)

	// Memory is how many policies and how many absences are kept in memory;
	// 0 means 100,000 of each.
	Memory int
	// AnswerWithin is how long a question waits for a flight, from the start
	// of the flight; 0 means 10 s.
	AnswerWithin time.Duration
	// Recheck is the least time between two looks at a TXT record, which the
	// resolver keeps, and between two fetches that an operator may have made;
	// 0 means 60 s. Below a minute it stands for 5 minutes
	// where those tell whether a policy lives long enough to be refreshed.
	Recheck time.Duration
	// Idle is how long a domain may go without a question before its policy
	// is no longer refreshed; 0 means 30 days.
	Idle time.Duration
	// FirstFetches is how many policies are fetched for questions at a time,
	// those included that wait for a place at their host, which the resolver
	// gives out; 0 means 8,192.
	FirstFetches int
	// Refreshes is how many policies are refreshed at a time; 0 means 32.
	Refreshes int

	// Log is where changes of policies and troubles of the store are told;
	// nil means nowhere.
	Log *zap.Logger
	// Metrics counts; nil means nobody does.
	Metrics Metrics
}

// Limits that are nobody's to set.
const (
	maxLookups = 4096
	// maxLoads is small, since each may hold a thread while a disk hangs.
	maxLoads = 64
	// storeTimeout bounds one access to the store, so that one which hangs
	// neither withholds what is known nor passes for "no record".
	storeTimeout = 5 * time.Second
	// shortLife is the max_age up to which a policy is not refreshed.
	shortLife = 5 * time.Minute
)

// Cache is the memory of the daemon. It is safe for concurrent use.
type Cache struct {
	store        Store
	shared       Shared // nil where there is none
	outbox       *outbox
	resolver     Resolver
	parse        func(text string) (*policy.STSPolicy, error)
	answerWithin time.Duration
	recheck      time.Duration
	shortLife    time.Duration
	idle         time.Duration
	// useStep is how exactly the last use is known.
	useStep time.Duration
	log     *zap.Logger
	metrics Metrics
	limiter limiter

	// started is a time on the clocks of this process to which the times in
	// records are anchored.
	started time.Time

	lookups, loads, fetches, refreshes, writes, news slots

	memory *memory

	// ctx is that of all flights, and ends with Close.
	ctx    context.Context
	cancel context.CancelFunc

	// mu guards what is below, and every write to memory.
	mu        sync.Mutex
	flights   map[policy.Domain]*flight
	lookingUp map[policy.NextHop]*daneFlight
	unwritten map[policy.Domain]unwritten
	// unwrittenBytes is the size of all that is unwritten.
	unwrittenBytes int
	// expiring is when each policy ends whose refresh fails; see watch.
	expiring map[policy.Domain]time.Time
	held     map[policy.Domain]time.Time
	// verified is when a policy was last fetched because of a hint.
	verified map[policy.Domain]verification
	overdue  int
	// writeAfter is when a write is tried again after one failed; zero if the
	// last one did not.
	writeAfter time.Time
	trouble    StoreTrouble
	running    int
	closed     bool
	landed     chan struct{}
}

// New returns a cache that remembers nothing yet. It starts no goroutine; see
// [Cache.Run].
func New(o Options) (*Cache, error) {
	if o.Store == nil || o.Resolver == nil || o.Parse == nil {
		return nil, errors.New("a cache needs a store, a resolver and a parser")
	}
	o.setDefaults()
	m, err := newMemory(o.Memory)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	c := &Cache{
		store: o.Store, shared: o.Shared, outbox: newOutbox(), resolver: o.Resolver, parse: o.Parse,
		answerWithin: o.AnswerWithin, recheck: o.Recheck, shortLife: shortLife,
		idle: o.Idle, useStep: min(time.Hour, o.Idle/4),
		log: o.Log, metrics: o.Metrics, started: time.Now(),
		lookups: make(slots, maxLookups), loads: make(slots, maxLoads), fetches: make(slots, o.FirstFetches),
		refreshes: make(slots, o.Refreshes), writes: make(slots, maxWrites), news: make(slots, maxNews),
		memory:    m,
		flights:   make(map[policy.Domain]*flight),
		lookingUp: make(map[policy.NextHop]*daneFlight),
		unwritten: make(map[policy.Domain]unwritten),
		expiring:  make(map[policy.Domain]time.Time),
		held:      make(map[policy.Domain]time.Time),
		verified:  make(map[policy.Domain]verification),
		landed:    make(chan struct{}),
	}
	if o.Recheck < time.Minute {
		c.shortLife = o.Recheck
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

func (o *Options) setDefaults() {
	o.Memory = orDefault(o.Memory, 100_000)
	o.AnswerWithin = orDefault(o.AnswerWithin, 10*time.Second)
	o.Recheck = orDefault(o.Recheck, time.Minute)
	o.Idle = orDefault(o.Idle, 30*24*time.Hour)
	o.FirstFetches = orDefault(o.FirstFetches, 8192)
	o.Refreshes = orDefault(o.Refreshes, 32)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Metrics == nil {
		o.Metrics = noMetrics{}
	}
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Lookup decides about mail to hop, as of asked, the time of the question. It
// always answers, at the latest when AnswerWithin is over or ctx ends: what is
// not known by then is absent if it is a policy that nobody ever saw, and failed
// if it is DANE. It is not remembered as such; the flight goes on.
func (c *Cache) Lookup(ctx context.Context, asked time.Time, hop policy.NextHop, class policy.Class) policy.Verdict {
	var e found
	if !c.memory.get(hop, &e) || !e.settled(asked) {
		return c.wait(ctx, asked, hop, class)
	}
	if !asked.Before(e.renew) {
		c.renewSTS(hop.Domain)
	}
	if e.sts.InForce(asked) {
		c.noteUse(asked, hop.Domain, &e.sts, e.use)
	}
	dane := &policy.DANE{}
	if policy.NeedsDANE(asked, &e.sts, class) {
		if !e.hasHop || !e.hop.dane.Fresh(asked) {
			return c.wait(ctx, asked, hop, class)
		}
		if !asked.Before(e.hop.renew) {
			c.renewDANE(hop)
		}
		dane = &e.hop.dane
	}
	c.metrics.Lookup(OutcomeMemory)
	return policy.Decide(asked, hop.Domain, &e.sts, dane, class)
}

// Close ends all flights and waits for them until ctx ends. What they did not
// finish is not remembered. Questions are still answered, from memory.
func (c *Cache) Close(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.cancel()
		if c.running == 0 {
			close(c.landed)
		}
	}
	c.mu.Unlock()
	select {
	case <-c.landed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for lookups in progress: %w", ctx.Err())
	}
}

// Entries counts what the cache holds and what it is behind with.
type Entries struct {
	// Policies and Absences are the facts in memory.
	Policies, Absences int
	// Unwritten is the number of records to be written to the store.
	Unwritten int
	// Unshared is the number of domains to be saved in the shared store, or
	// removed from it after a purge.
	Unshared int
	// Overdue is the number of refreshes that are due and were not started,
	// as far as it was counted (see overdueSeen).
	Overdue int
	// Expiring is the number of policies past half of their life whose
	// refresh fails.
	Expiring int
}

// Entries returns the counts of now.
func (c *Cache) Entries() Entries {
	var n Entries
	n.Policies, n.Absences = c.memory.len()
	n.Unshared = c.outbox.len()
	c.mu.Lock()
	defer c.mu.Unlock()
	n.Unwritten, n.Overdue, n.Expiring = len(c.unwritten), c.overdue, len(c.expiring)
	return n
}
