package cache

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

const (
	// retryShared is the time between two attempts while the shared store
	// fails, and nextShared that before it is tried with another domain.
	retryShared = time.Second
	nextShared  = 20 * time.Millisecond
	// catchUpPace is the time between two records of what is saved anew, and
	// catchUpPage how many are read at a time.
	catchUpPace = 2 * time.Millisecond
	catchUpPage = 100
)

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
		defer c.outbox.end()
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
		c.outbox.begin(r.Domain, errandSave)
		defer c.outbox.end()
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
