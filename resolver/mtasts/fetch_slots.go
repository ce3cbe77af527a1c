package mtasts

import (
	"context"
	"net/netip"
	"sync"
)

// slots bounds how many connections are open to each address, so that one
// slow host that many domains share does not hold all fetches.
type slots struct {
	perAddress int

	mu    sync.Mutex // guards inUse and slot.users
	inUse map[netip.Addr]*slot
}

// slot is the connections to one address: those that are open fill up open,
// users counts those that wait too.
type slot struct {
	open  chan struct{}
	users int
}

func newSlots(perAddress int) *slots {
	return &slots{perAddress: perAddress, inUse: make(map[netip.Addr]*slot)}
}

// acquire waits until one more connection to addr may be opened. After a nil
// error, release must be called once.
func (s *slots) acquire(ctx context.Context, addr netip.Addr) error {
	slot := s.enter(addr)
	select {
	case slot.open <- struct{}{}:
		return nil
	case <-ctx.Done():
		s.leave(addr, slot)
		return ctx.Err()
	}
}

// release gives back what acquire gave.
func (s *slots) release(addr netip.Addr) {
	s.mu.Lock()
	slot := s.inUse[addr]
	s.mu.Unlock()
	<-slot.open
	s.leave(addr, slot)
}

func (s *slots) enter(addr netip.Addr) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.inUse[addr]
	if !ok {
		e = &slot{open: make(chan struct{}, s.perAddress)}
		s.inUse[addr] = e
	}
	e.users++
	return e
}

func (s *slots) leave(addr netip.Addr, e *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(s.inUse, addr)
	}
}
