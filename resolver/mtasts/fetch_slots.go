package mtasts

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxConnections is how many connections fetches for questions hold at a
	// time, all addresses together. Who wants to take them all needs 32
	// addresses that hang.
	maxConnections = 2048
	// maxPerAddress is how many of them there are to one address.
	maxPerAddress = 64
	// maxWaiting is how many fetches wait for one of those.
	maxWaiting = 512
	// patience is how long they wait: as long as a question does. It is never
	// more than half of the time for the fetch.
	patience = 10 * time.Second

	// maxRefreshes is how many connections to one address refreshes have, on
	// top of the others. Far fewer than there are places for refreshes: a
	// provider that hangs must not hold up those of all others.
	maxRefreshes = 8
	// refreshPatience is how long a refresh waits. It keeps a place of its
	// pool meanwhile, and can as well be made later.
	refreshPatience = time.Second
)

// errBusy is why a connection was not tried: there are as many as there may
// be. It says nothing about the host.
var errBusy = errors.New("too many fetches at the same time")

// gate lets fetches through to the addresses of policy hosts, so many at a
// time.
type gate struct {
	slots *slots
	// places are those for all addresses together; nil if somebody else sees
	// to that.
	places   chan struct{}
	patience time.Duration
}

// newGates returns the gate for fetches that questions wait for, and that for
// refreshes, whose number is bounded by who begins them.
func newGates(timeout time.Duration) (first, refresh *gate) {
	return &gate{
			slots:    newSlots(maxPerAddress, maxWaiting),
			places:   make(chan struct{}, maxConnections),
			patience: min(patience, timeout/2),
		}, &gate{
			slots:    newSlots(maxRefreshes, maxConnections),
			patience: min(refreshPatience, timeout/2),
		}
}

// enter waits for a place for one more connection to addr, but not beyond
// until. After a nil error, leave must be called once; an error wraps errBusy,
// or is that of ctx.
func (g *gate) enter(ctx context.Context, addr netip.Addr, until time.Time) (leave func(), err error) {
	waiting, cancel := context.WithDeadlineCause(ctx, until, errBusy)
	defer cancel()
	key := subnet(addr)
	// The place at the address comes first: who waits for that holds nothing
	// that others need.
	if err := g.slots.acquire(waiting, key); err != nil {
		return nil, err
	}
	if err := g.take(waiting); err != nil {
		g.slots.release(key)
		return nil, err
	}
	return func() {
		g.giveBack()
		g.slots.release(key)
	}, nil
}

// enterAny is enter for a connection through a proxy, of which the address is
// not known.
func (g *gate) enterAny(ctx context.Context, until time.Time) (leave func(), err error) {
	waiting, cancel := context.WithDeadlineCause(ctx, until, errBusy)
	defer cancel()
	if err := g.take(waiting); err != nil {
		return nil, err
	}
	return g.giveBack, nil
}

func (g *gate) take(ctx context.Context) error {
	if g.places == nil {
		return nil
	}
	return take(ctx, g.places)
}

func (g *gate) giveBack() {
	if g.places != nil {
		<-g.places
	}
}

// subnet returns what counts as one address: of IPv6, everybody has as many
// as he likes in one subnet (RFC 4291, section 2.5.4: 64 bits).
func subnet(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of no address, which is never dialled
	}
	return p
}

// slots bounds how many connections are open to each network, so that one slow
// host that many domains share does not hold all fetches.
type slots struct {
	open, waiting int

	mu    sync.Mutex // guards inUse and slot.users
	inUse map[netip.Prefix]*slot
}

// slot is the connections to one network: those that are open fill up open,
// users counts those that wait too.
type slot struct {
	open  chan struct{}
	users int
}

func newSlots(open, waiting int) *slots {
	return &slots{open: open, waiting: waiting, inUse: make(map[netip.Prefix]*slot)}
}

// acquire waits until one more connection may be opened. After a nil error,
// release must be called once.
func (s *slots) acquire(ctx context.Context, key netip.Prefix) error {
	slot := s.enter(key)
	if slot == nil {
		return errBusy
	}
	err := take(ctx, slot.open)
	if err != nil {
		s.leave(key, slot)
	}
	return err
}

// take takes one of the places that there is room for in a channel, at once if
// one is free, or else before ctx ends.
func take(ctx context.Context, places chan<- struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	default:
	}
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release gives back what acquire gave.
func (s *slots) release(key netip.Prefix) {
	s.mu.Lock()
	slot := s.inUse[key]
	s.mu.Unlock()
	<-slot.open
	s.leave(key, slot)
}

// enter returns the slot to wait at, or nil if too many do.
func (s *slots) enter(key netip.Prefix) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.inUse[key]
	if !ok {
		e = &slot{open: make(chan struct{}, s.open)}
		s.inUse[key] = e
	}
	if e.users == s.open+s.waiting {
		return nil
	}
	e.users++
	return e
}

func (s *slots) leave(key netip.Prefix, e *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(s.inUse, key)
	}
}
