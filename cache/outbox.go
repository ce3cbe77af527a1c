package cache

import (
	"sync"

	"tlspolicyd/resolver/policy"
)

const (
	// maxUnshared is the number of domains that wait to be saved in the shared
	// store; above it, all that is stored is saved there anew. As many places
	// are left to removals, which nothing makes up for.
	maxUnshared = 10_000
	// retryAtOnce is how many errands that failed are tried again at a time.
	retryAtOnce = 32
)

// errand is what is to be done about a domain in the shared store.
type errand uint8

const (
	// errandSave: save the policy that is known of it then.
	errandSave errand = iota + 1
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
	// sending is the domain whose errand is under way, and doing that errand.
	sending policy.Domain
	doing   errand
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
	if _, there := o.waiting[domain]; there || o.hasRoom(e) {
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
	if !o.hasRoom(e) {
		o.behind = true
		return
	}
	o.failed[domain] = e
}

// hasRoom reports whether one more errand may wait. o.mu is held.
func (o *outbox) hasRoom(e errand) bool {
	room := maxUnshared
	if e == errandRemove {
		room += maxUnshared
	}
	return len(o.waiting)+len(o.failed) < room
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
		o.sending, o.doing = domain, e
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

// begin and end say which errand is under way.
func (o *outbox) begin(domain policy.Domain, e errand) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sending, o.doing = domain, e
}

func (o *outbox) end() { o.begin(policy.Domain{}, 0) }

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

// holdsBack reports whether what the shared store has of a domain is yet to be
// removed.
func (o *outbox) holdsBack(domain policy.Domain) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting[domain] == errandRemove || o.failed[domain] == errandRemove ||
		o.sending == domain && o.doing == errandRemove
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting) + len(o.failed)
}
