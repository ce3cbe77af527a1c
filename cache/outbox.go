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
	// maxUnshared is the number of policies that wait to be saved in the
	// shared store; above it, all that is stored is saved there anew.
	maxUnshared = 10_000
	// retryShared is the time between two attempts while that fails.
	retryShared = time.Second
	// catchUpPace is the time between two records of what is saved anew, and
	// catchUpPage how many are read at a time.
	catchUpPace = 2 * time.Millisecond
	catchUpPage = 100
)

// outbox is what the shared store is to be given: the policies fetched here, and
// from time to time all that is stored here.
type outbox struct {
	// wake tells the goroutine that empties the outbox that there is something.
	wake chan struct{}

	mu      sync.Mutex // guards what is below
	waiting map[policy.Domain]struct{}
	// sending is what is being saved; withdrawn says that it was purged
	// meanwhile.
	sending   policy.Domain
	withdrawn bool
	// behind says that all that is stored is to be saved anew.
	behind bool
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), waiting: make(map[policy.Domain]struct{})}
}

// add has the policy of a domain saved.
func (o *outbox) add(domain policy.Domain) {
	o.mu.Lock()
	if len(o.waiting) < maxUnshared {
		o.waiting[domain] = struct{}{}
	} else {
		o.behind = true
	}
	o.mu.Unlock()
	o.ring()
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

// take returns a domain that waits, and notes that it is being saved.
func (o *outbox) take() (policy.Domain, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for domain := range o.waiting {
		delete(o.waiting, domain)
		o.sending, o.withdrawn = domain, false
		return domain, true
	}
	return policy.Domain{}, false
}

// takeAll reports whether all is to be saved anew.
func (o *outbox) takeAll() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	behind := o.behind
	o.behind = false
	return behind
}

// begin notes that a domain is being saved that did not wait for it.
func (o *outbox) begin(domain policy.Domain) {
	o.mu.Lock()
	o.sending, o.withdrawn = domain, false
	o.mu.Unlock()
}

// end notes that nothing is being saved any more, and reports whether what was
// has been withdrawn.
func (o *outbox) end() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending = policy.Domain{}
	return o.withdrawn
}

// withdraw keeps what is known of a domain from being saved, also if it is being
// saved now.
func (o *outbox) withdraw(domain policy.Domain) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.waiting, domain)
	o.withdrawn = o.withdrawn || o.sending == domain
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting)
}

// share saves in the shared store what is fetched here, and after it lost its
// memory all that is in force here, until ctx ends. What cannot be saved is
// tried again.
func (c *Cache) share(ctx context.Context) {
	var all catchUp
	for ctx.Err() == nil {
		if err := c.shareSome(ctx, &all); err != nil && ctx.Err() == nil {
			c.sharedFailed(opSave, err)
			pause(ctx, retryShared)
		}
	}
}

// shareSome saves what comes next, or waits until there is something.
func (c *Cache) shareSome(ctx context.Context, all *catchUp) error {
	if domain, ok := c.outbox.take(); ok {
		err := c.shareOne(ctx, domain)
		if err != nil {
			c.outbox.add(domain)
		}
		return err
	}
	if c.outbox.takeAll() {
		*all = catchUp{underWay: true}
	}
	if all.underWay {
		return c.shareNext(ctx, all)
	}
	select {
	case <-c.outbox.wake:
	case <-ctx.Done():
	}
	return nil
}

// shareOne saves the policy of a domain as it is now. The outbox knows already
// that it is being saved.
func (c *Cache) shareOne(ctx context.Context, domain policy.Domain) error {
	r, ok := c.latest(ctx, domain)
	if !ok {
		c.outbox.end()
		return nil
	}
	return c.send(ctx, &r)
}

// latest returns the record of the policy that is known of a domain, and
// whether there is one.
func (c *Cache) latest(ctx context.Context, domain policy.Domain) (Record, bool) {
	c.mu.Lock()
	e, u := c.memory.peek(domain), c.unwritten[domain]
	c.mu.Unlock()
	switch {
	case e != nil && e.known && e.sts.Policy != nil:
		return recordOf(domain, &e.sts, time.Time{}), true
	case u.fact != nil:
		return recordOf(domain, u.fact, time.Time{}), true
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := c.store.Load(ctx, domain)
	return r, err == nil && r.Text != ""
}

// send saves what others may know of a record: the policy. When this relay last
// needed it, and what failed here, is nobody else's concern.
func (c *Cache) send(ctx context.Context, r *Record) error {
	err := c.shared.Save(ctx, Record{Domain: r.Domain, Text: r.Text, ID: r.ID, Fetched: r.Fetched, Expires: r.Expires})
	if c.outbox.end() && err == nil {
		return c.shared.Remove(ctx, r.Domain)
	}
	return err
}

// catchUp is how far the saving of all that is stored has come.
type catchUp struct {
	underWay bool
	after    policy.Domain
	page     []Record
}

// shareNext saves the next record of those that are stored.
func (c *Cache) shareNext(ctx context.Context, all *catchUp) error {
	if len(all.page) == 0 {
		scan, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		page, err := c.store.Scan(scan, all.after, catchUpPage)
		if err != nil {
			return err
		}
		if all.page = page; len(page) == 0 {
			*all = catchUp{}
			return nil
		}
	}
	r := &all.page[0]
	if r.Text != "" && r.Expires.After(time.Now()) {
		c.outbox.begin(r.Domain)
		if err := c.shareOne(ctx, r.Domain); err != nil {
			return err
		}
		pause(ctx, catchUpPace)
	}
	all.after, all.page = r.Domain, all.page[1:]
	return nil
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
