package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

const (
	// maxUnshared is the number of domains that wait for the shared store;
	// above it, all that is stored is saved there anew.
	maxUnshared = 10_000
	// retryShared is the time between two attempts while the shared store
	// fails, and nextShared that before it is tried with another domain.
	retryShared = time.Second
	nextShared  = 20 * time.Millisecond
	// retryAtOnce is how many errands that failed are tried again at a time.
	retryAtOnce = 32
	// catchUpPace is the time between two records of what is saved anew, and
	// catchUpPage how many are read at a time.
	catchUpPace = 2 * time.Millisecond
	catchUpPage = 100
)

// errand is what is to be done about a domain in the shared store.
type errand uint8

const (
	// errandSave: save the policy that is known of it then.
	errandSave errand = iota
	// errandRemove: remove what may be there, since it was purged.
	errandRemove
)

// outbox is what the shared store is to be told: the policies fetched here, what
// was purged, and from time to time all that is stored here.
type outbox struct {
	// wake tells the goroutine that empties the outbox that there is something.
	wake chan struct{}

	mu sync.Mutex // guards what is below
	// waiting are the errands that have not failed yet, failed the others.
	waiting, failed map[policy.Domain]errand
	// sending is the domain whose policy is being saved.
	sending policy.Domain
	// behind says that all that is stored is to be saved anew.
	behind bool
}

func newOutbox() *outbox {
	return &outbox{
		wake:    make(chan struct{}, 1),
		waiting: make(map[policy.Domain]errand), failed: make(map[policy.Domain]errand),
	}
}

// add has an errand done; it takes the place of another one of the domain.
func (o *outbox) add(domain policy.Domain, e errand) {
	o.mu.Lock()
	delete(o.failed, domain)
	if _, there := o.waiting[domain]; there || len(o.waiting)+len(o.failed) < maxUnshared {
		o.waiting[domain] = e
	} else {
		o.behind = true
	}
	o.mu.Unlock()
	o.ring()
}

// again has an errand that failed tried once more, unless there is another one
// of the domain by now.
func (o *outbox) again(domain policy.Domain, e errand) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, other := o.waiting[domain]; other {
		return
	}
	if len(o.waiting)+len(o.failed) >= maxUnshared {
		o.behind = true
		return
	}
	o.failed[domain] = e
}

// addAll has all that is stored saved.
func (o *outbox) addAll() {
	o.mu.Lock()
	o.behind = true
	o.mu.Unlock()
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take returns an errand that has not failed yet, and notes that it is under
// way.
func (o *outbox) take() (policy.Domain, errand, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for domain, e := range o.waiting {
		delete(o.waiting, domain)
		o.sending = domain
		return domain, e, true
	}
	return policy.Domain{}, 0, false
}

// takeAll reports whether all is to be saved anew.
func (o *outbox) takeAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	behind := o.behind
	o.behind = false
	return behind
}

// hasFailed reports whether there are errands that failed.
func (o *outbox) hasFailed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failed) > 0
}

// retry makes some of the errands that failed wait like the others: a few, so that
// neither what is new nor the saving of all that is stored waits for them.
func (o *outbox) retry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for domain, e := range o.failed {
		if n++; n > retryAtOnce {
			return
		}
		delete(o.failed, domain)
		if _, other := o.waiting[domain]; !other {
			o.waiting[domain] = e
		}
	}
}

// begin and end say which domain is being saved.
func (o *outbox) begin(domain policy.Domain) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending = domain
}

func (o *outbox) end() { o.begin(policy.Domain{}) }

// withdraw is called when a domain is purged. If it may be on its way to the
// shared store, a removal follows it.
func (o *outbox) withdraw(domain policy.Domain) {
	o.mu.Lock()
	_, waits := o.waiting[domain]
	_, failed := o.failed[domain]
	underWay := waits || failed || o.sending == domain
	o.mu.Unlock()
	if underWay {
		o.add(domain, errandRemove)
	}
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting) + len(o.failed)
}

// share tells the shared store what it is to be told, until ctx ends. What fails
// is tried again.
func (c *Cache) share(ctx context.Context) {
	var all catchUp
	retried := time.Now()
	for ctx.Err() == nil {
		if time.Since(retried) >= retryShared {
			c.outbox.retry()
			retried = time.Now()
		}
		switch err := c.shareSome(ctx, &all); {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrUnavailable):
			pause(ctx, retryShared)
		default:
			c.sharedFailed(opSave, err)
			pause(ctx, nextShared)
		}
	}
}

// shareSome does what comes next, or waits until there is something.
func (c *Cache) shareSome(ctx context.Context, all *catchUp) error {
	if domain, e, ok := c.outbox.take(); ok {
		err := c.run(ctx, domain, e)
		if err != nil {
			c.outbox.again(domain, e)
		}
		return err
	}
	if !all.underWay && c.outbox.takeAll() {
		*all = catchUp{underWay: true}
	}
	if all.underWay {
		return c.shareNext(ctx, all)
	}
	c.rest(ctx)
	return nil
}

// rest waits until there is an errand, or it is time to try those again that
// failed.
func (c *Cache) rest(ctx context.Context) {
	var retry <-chan time.Time
	if c.outbox.hasFailed() {
		timer := time.NewTimer(retryShared)
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-c.outbox.wake:
	case <-retry:
	case <-ctx.Done():
	}
}

// run does an errand. The outbox knows that it is under way.
func (c *Cache) run(ctx context.Context, domain policy.Domain, e errand) error {
	defer c.outbox.end()
	if e == errandRemove {
		return c.shared.Remove(ctx, domain)
	}
	r, ok, err := c.latest(ctx, domain)
	if !ok || err != nil {
		return err
	}
	// When this relay last needed it, and what failed here, is nobody else's
	// concern.
	return c.shared.Save(ctx, Record{Domain: domain, Text: r.Text, ID: r.ID, Fetched: r.Fetched, Expires: r.Expires})
}

// latest returns the record of the policy that is known of a domain, and
// whether there is one.
func (c *Cache) latest(ctx context.Context, domain policy.Domain) (Record, bool, error) {
	c.mu.Lock()
	e, u := c.memory.peek(domain), c.unwritten[domain]
	c.mu.Unlock()
	switch {
	case e != nil && e.known && e.sts.Policy != nil:
		return recordOf(domain, &e.sts, time.Time{}), true, nil
	case u.fact != nil:
		return recordOf(domain, u.fact, time.Time{}), true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := c.store.Load(ctx, domain)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return Record{}, false, nil
	}
	return r, r.Text != "", err
}

// catchUp is how far the saving of all that is stored has come.
type catchUp struct {
	underWay bool
	after    policy.Domain
	page     []Record
}

// shareNext saves the next record of those that are stored. One that fails is
// left to the outbox, unless the whole store does.
func (c *Cache) shareNext(ctx context.Context, all *catchUp) error {
	if len(all.page) == 0 && !c.turnPage(ctx, all) {
		return nil
	}
	r := &all.page[0]
	var err error
	if r.Text != "" && r.Expires.After(time.Now()) {
		c.outbox.begin(r.Domain)
		if err = c.run(ctx, r.Domain, errandSave); errors.Is(err, ErrUnavailable) {
			return err
		}
		if err != nil {
			c.outbox.again(r.Domain, errandSave)
		}
		pause(ctx, catchUpPace)
	}
	all.after, all.page = r.Domain, all.page[1:]
	return err
}

// turnPage reads the next records, and reports whether there are any. If they
// cannot be read now, that is tried again later.
func (c *Cache) turnPage(ctx context.Context, all *catchUp) bool {
	limited, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	page, err := c.store.Scan(limited, all.after, catchUpPage)
	switch {
	case err != nil && ctx.Err() == nil:
		c.storeFailed(opLoad, "the store could not be listed for the shared one", policy.Domain{}, err)
		pause(ctx, retryShared)
	case len(page) == 0:
		*all = catchUp{}
	}
	all.page = page
	return err == nil && len(page) > 0
}

// sharedFailed counts an error of the shared store, and logs it now and then. A
// store that is out of reach tells so itself, once.
func (c *Cache) sharedFailed(op string, err error) {
	if errors.Is(err, ErrUnavailable) {
		return
	}
	c.metrics.StoreFailed(TierShared, op)
	if c.limiter.allow(time.Now(), "shared "+op) {
		c.log.Warn("the shared store did not do what it was asked for; this relay goes on with what it has",
			zap.String("op", op), zap.Error(err))
	}
}
