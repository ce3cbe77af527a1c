package cache

import (
	"context"
	"sync"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// fleet is a fake of a shared store and of what its members tell each other.
type fleet struct {
	mu      sync.Mutex
	records map[policy.Domain][]byte
	members []*member
	// err is what every call fails with, and takes how long one needs.
	err   error
	takes time.Duration
	// deaf says that nobody is told of changes.
	deaf  bool
	saves int
}

func newFleet() *fleet { return &fleet{records: make(map[policy.Domain][]byte)} }

// set changes the fleet while nobody looks.
func (s *fleet) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// member is the fleet as one relay sees it.
type member struct {
	fleet *fleet
	news  chan News
}

func (s *fleet) join() *member {
	m := &member{fleet: s, news: make(chan News, 10_000)}
	s.set(func() { s.members = append(s.members, m) })
	return m
}

// visit takes the time of a call, and returns its error.
func (s *fleet) visit(ctx context.Context) error {
	s.mu.Lock()
	takes := s.takes
	s.mu.Unlock()
	if takes > 0 && !pause(ctx, takes) {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (m *member) Load(ctx context.Context, domain policy.Domain) (Record, error) {
	if err := m.fleet.visit(ctx); err != nil {
		return Record{}, err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	b, ok := m.fleet.records[domain]
	if !ok {
		return Record{}, ErrNotFound
	}
	return DecodeRecord(b)
}

func (m *member) Save(ctx context.Context, r Record) error {
	if err := m.fleet.visit(ctx); err != nil {
		return err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.fleet.saves++
	old, err := DecodeRecord(m.fleet.records[r.Domain])
	known := err == nil
	if known && old.Fetched.After(r.Fetched) && ahead(time.Now(), old.Fetched) <= maxAhead {
		return nil
	}
	b, err := r.Encode()
	if err != nil {
		return err
	}
	m.fleet.records[r.Domain] = b
	if known && old.Text == r.Text && old.ID == r.ID || m.fleet.deaf {
		return nil
	}
	for _, other := range m.fleet.members {
		if other != m {
			other.news <- News{Changed: r.Domain}
		}
	}
	return nil
}

func (m *member) Remove(ctx context.Context, domain policy.Domain) error {
	if err := m.fleet.visit(ctx); err != nil {
		return err
	}
	m.fleet.set(func() { delete(m.fleet.records, domain) })
	return nil
}

func (m *member) RemoveAll(ctx context.Context) (int, error) {
	if err := m.fleet.visit(ctx); err != nil {
		return 0, err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	n := len(m.fleet.records)
	clear(m.fleet.records)
	return n, nil
}

func (m *member) Next(ctx context.Context) (News, error) {
	select {
	case n := <-m.news:
		return n, nil
	case <-ctx.Done():
		return News{}, ctx.Err()
	}
}

// holds reports whether the fleet has a record of a domain.
func (s *fleet) holds(t *testing.T, name string) bool {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.records[dom(t, name)]
	return ok
}

// forge puts a record into the shared store, as a stranger could, and tells
// everybody.
func (s *fleet) forge(t *testing.T, r Record) {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[r.Domain] = b
	for _, m := range s.members {
		m.news <- News{Changed: r.Domain}
	}
}

// startIn starts a relay of a fleet with a store of its own, which it returns.
func startIn(t *testing.T, w *world, s *fleet) (*relay, *world) {
	t.Helper()
	local := newWorld()
	return start(t, w, Options{Store: local, Shared: s.join()}), local
}

// learned starts a relay of a new fleet that has learned the policy of a.example,
// whose TXT record lives for ttl; 0 means as long as in every other test.
func learned(t *testing.T, w *world, ttl time.Duration) (s *fleet, a *relay, local *world) {
	t.Helper()
	s = newFleet()
	w.publish("a.example", site{id: "1", text: aWeek, ttl: ttl})
	a, local = startIn(t, w, s)
	a.want("a.example", policy.Secure, 0)
	return s, a, local
}

// fetchedRecord is what a relay shares of a domain after a fetch at a time.
func fetchedRecord(t *testing.T, name, id, text string, fetched time.Time) Record {
	t.Helper()
	p, err := parseTest(text)
	if err != nil {
		return Record{Domain: dom(t, name), ID: id, Text: text, Fetched: fetched, Expires: fetched.Add(time.Hour)}
	}
	return Record{Domain: dom(t, name), ID: id, Text: text, Fetched: fetched, Expires: fetched.Add(p.MaxAge)}
}
