package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

// world is a fake of everything below the cache: a store and a network. Its
// zero fields are a network in which there is nothing, and a store that works.
type world struct {
	mu sync.Mutex

	// sites are what domains publish, by name.
	sites map[string]site
	// lookTakes, fetchTakes and daneTakes are how long the network needs.
	lookTakes, fetchTakes, daneTakes time.Duration
	// spread is how much earlier refreshes come, of a tenth; nil means not at all.
	spread func() float64

	looks, fetches, danes map[string]int
	fetching, top         int
	fetchedAt             []time.Time

	records map[policy.Domain][]byte
	due     map[policy.Domain]time.Time
	loads   map[string]int
	saves   int
	saveErr error
	loadErr map[string]error
	// loadTakes and saveTakes are how long the store needs.
	loadTakes, saveTakes time.Duration
}

// site is what a domain publishes.
type site struct {
	id     string        // of its TXT record; none if empty
	ttl    time.Duration // of its TXT record, or of the absence; 5 min if zero
	noDNS  bool          // the TXT lookup fails
	text   string        // of its policy; the fetch fails if empty
	full   bool          // there is no place for a fetch from its host
	dane   policy.DANE   // MX zero: the lookup fails
	daneIn time.Duration // TTL of the DANE fact; 5 min if zero
}

func newWorld() *world {
	return &world{
		sites: make(map[string]site), records: make(map[policy.Domain][]byte), due: make(map[policy.Domain]time.Time),
		looks: make(map[string]int), fetches: make(map[string]int), danes: make(map[string]int),
		loads: make(map[string]int), loadErr: make(map[string]error),
	}
}

func (w *world) publish(domain string, s site) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sites[domain] = s
}

// set changes the world while nobody looks.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) count(m map[string]int, key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return m[key]
}

// visit counts a lookup and takes its time. It reports whether that was not
// cut short.
func (w *world) visit(ctx context.Context, m map[string]int, key string, takes *time.Duration) (site, bool) {
	w.mu.Lock()
	m[key]++
	d := *takes
	w.mu.Unlock()
	ok := d == 0 || pause(ctx, d)
	w.mu.Lock()
	defer w.mu.Unlock()
	name, _, _ := strings.Cut(strings.Trim(key, "[]"), ":")
	return w.sites[name], ok && ctx.Err() == nil
}

func orMinutes(d time.Duration) time.Duration {
	if d == 0 {
		return 5 * time.Minute
	}
	return d
}

func (w *world) Look(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	s, ok := w.visit(ctx, w.looks, domain.String(), &w.lookTakes)
	if !ok {
		return prev
	}
	now := time.Now()
	next := prev
	next.Looked, next.Recheck = now, now.Add(orMinutes(s.ttl))
	switch {
	case s.noDNS:
		next.Record, next.Detail, next.Recheck = policy.RecordFailed, "SERVFAIL", now.Add(time.Minute)
	case s.id == "":
		next.Record = policy.RecordAbsent
	default:
		next.Record = policy.RecordFound
		next.Recheck = now.Add(time.Minute)
		failed := next.Failure.ID == s.id && now.Sub(next.Failure.At) < 5*time.Minute
		if (!next.InForce(now) || next.ID != s.id) && !failed {
			next.Wanted = s.id
		}
	}
	if end := next.Expires(); next.InForce(now) && end.After(now) {
		next.Recheck = earlier(next.Recheck, end)
	}
	return next
}

func (w *world) Fetch(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	w.set(func() {
		w.fetching++
		w.top = max(w.top, w.fetching)
		w.fetchedAt = append(w.fetchedAt, time.Now())
	})
	defer w.set(func() { w.fetching-- })
	s, ok := w.visit(ctx, w.fetches, domain.String(), &w.fetchTakes)
	if !ok {
		return prev
	}
	now := time.Now()
	next := prev
	if s.full {
		if prev.Wanted == "" {
			next.Refresh = now.Add(time.Hour)
		}
		return next
	}
	next.Wanted = ""
	p, err := parseTest(s.text)
	if err != nil {
		next.Failure = policy.Failure{ID: prev.Wanted, At: now, Count: prev.Failure.Count + 1, Kind: "status", Reason: err.Error()}
		if prev.Wanted == "" {
			next.Refresh = now.Add(5 * time.Minute << min(next.Failure.Count-1, 6))
		}
		return next
	}
	next.Policy, next.Fetched, next.Failure, next.Lost = p, now, policy.Failure{}, false
	if prev.Wanted != "" {
		next.ID = prev.Wanted
	}
	next.Refresh = w.refreshAt(now, p)
	if end := next.Expires(); end.After(now) {
		next.Recheck = earlier(next.Recheck, end)
	}
	return next
}

func (w *world) Adopt(prev policy.STS, p *policy.STSPolicy, id string, fetched time.Time) policy.STS {
	next := prev
	next.Policy, next.ID, next.Fetched, next.Failure, next.Lost, next.Wanted = p, id, fetched, policy.Failure{}, false, ""
	next.Refresh = w.refreshAt(fetched, p)
	if end := next.Expires(); end.After(time.Now()) {
		next.Recheck = earlier(next.Recheck, end)
	}
	return next
}

// refreshAt is when a policy is fetched again.
func (w *world) refreshAt(fetched time.Time, p *policy.STSPolicy) time.Time {
	if p.MaxAge <= 5*time.Minute {
		return time.Time{}
	}
	wait := min(24*time.Hour, p.MaxAge/2)
	if w.spread != nil {
		wait -= time.Duration(w.spread() * float64(wait/10))
	}
	return fetched.Add(max(5*time.Minute, wait))
}

func (w *world) DANE(ctx context.Context, hop policy.NextHop, prev policy.DANE) policy.DANE {
	s, ok := w.visit(ctx, w.danes, hop.String(), &w.daneTakes)
	if !ok {
		return policy.DANE{}
	}
	now := time.Now()
	if s.dane.MX == policy.MXFailed && prev.Fresh(now) {
		prev.Learned = now
		return prev
	}
	next := s.dane
	next.Learned, next.Expires = now, now.Add(orMinutes(s.daneIn))
	if next.MX == policy.MXFailed {
		next.Expires = now
	}
	return next
}

func (w *world) Load(ctx context.Context, domain policy.Domain) (Record, error) {
	w.mu.Lock()
	takes := w.loadTakes
	w.loads[domain.String()]++
	w.mu.Unlock()
	if takes > 0 && !pause(ctx, takes) {
		return Record{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.loadErr[domain.String()]; err != nil {
		return Record{}, err
	}
	b, ok := w.records[domain]
	if !ok {
		return Record{}, ErrNotFound
	}
	return DecodeRecord(b)
}

func (w *world) Save(ctx context.Context, r Record) error {
	w.mu.Lock()
	takes := w.saveTakes
	w.mu.Unlock()
	if takes > 0 && !pause(ctx, takes) {
		return ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saves++
	if w.saveErr != nil {
		return w.saveErr
	}
	b, err := r.Encode()
	if err != nil {
		return err
	}
	w.records[r.Domain] = b
	delete(w.due, r.Domain)
	if !r.Refresh.IsZero() {
		w.due[r.Domain] = time.Unix(r.Refresh.Unix(), 0)
	}
	return nil
}

func (w *world) Remove(_ context.Context, domain policy.Domain) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.records, domain)
	delete(w.due, domain)
	return nil
}

func (w *world) Due(_ context.Context, now time.Time, n int) ([]policy.Domain, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var domains []policy.Domain
	for d, at := range w.due {
		if !at.After(now) {
			domains = append(domains, d)
		}
	}
	slices.SortFunc(domains, func(a, b policy.Domain) int { return w.due[a].Compare(w.due[b]) })
	return domains[:min(n, len(domains))], nil
}

// record returns what the store holds of a domain.
func (w *world) record(t *testing.T, name string) Record {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	b, ok := w.records[dom(t, name)]
	if !ok {
		t.Fatalf("the store holds no record of %s", name)
	}
	r, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keep puts a record into the store.
func (w *world) keep(t *testing.T, r Record) {
	t.Helper()
	if err := w.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.saves-- })
}

var errTestPolicy = errors.New("no policy")

// parseTest reads "enforce 1h mx.example.net …".
func parseTest(text string) (*policy.STSPolicy, error) {
	f := strings.Fields(text)
	if len(f) < 2 {
		return nil, fmt.Errorf("%w: %q", errTestPolicy, text)
	}
	modes := map[string]policy.Mode{"none": policy.ModeNone, "testing": policy.ModeTesting, "enforce": policy.ModeEnforce}
	age, err := time.ParseDuration(f[1])
	if err != nil || modes[f[0]] == 0 {
		return nil, fmt.Errorf("%w: %q", errTestPolicy, text)
	}
	p := &policy.STSPolicy{Mode: modes[f[0]], MaxAge: age, Text: text}
	for _, mx := range f[2:] {
		m, err := policy.ParseMXPattern(mx)
		if err != nil {
			return nil, err
		}
		p.MX = append(p.MX, m)
	}
	return p, nil
}

func dom(t testing.TB, name string) policy.Domain {
	t.Helper()
	d, err := policy.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// counts is a Metrics that adds up, under names such as "lookup memory".
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[name]++
}
func (c *counts) Lookup(s string)        { c.add("lookup " + s) }
func (c *counts) Refreshed(s string)     { c.add("refresh " + s) }
func (c *counts) PolicyChanged(s string) { c.add("change " + s) }
func (c *counts) StoreFailed(tier, op string) {
	if tier != TierLocal {
		op = tier + " " + op
	}
	c.add("store " + op)
}

func (c *counts) want(t *testing.T, name string, want int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[name] != want {
		t.Errorf("%s counted %d times, want %d; all: %v", name, c.n[name], want, c.n)
	}
}

// relay is a cache in a world, as a test sees it.
type relay struct {
	*Cache
	t      *testing.T
	counts *counts
	stop   func()
}

// start makes a cache in w and runs it. It must be ended with stop, inside of
// the bubble.
func start(t *testing.T, w *world, o Options) *relay {
	t.Helper()
	n := &counts{}
	if o.Store == nil {
		o.Store = w
	}
	o.Resolver, o.Parse, o.Metrics = w, parseTest, n
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return &relay{Cache: c, t: t, counts: n, stop: func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Errorf("Close: %v", err)
		}
	}}
}

// ask asks about a domain at port 25 with ClassSTSOnly.
func (r *relay) ask(name string) policy.Verdict { return r.askAs(name, policy.ClassSTSOnly) }

func (r *relay) askAs(name string, class policy.Class) policy.Verdict {
	return r.Lookup(r.t.Context(), time.Now(), policy.NextHop{Domain: dom(r.t, name), Port: 25}, class)
}

// want asks and checks the answer, and how long it took.
func (r *relay) want(name string, kind policy.Kind, took time.Duration) {
	r.t.Helper()
	r.wantAs(name, policy.ClassSTSOnly, kind, took)
}

func (r *relay) wantAs(name string, class policy.Class, kind policy.Kind, took time.Duration) {
	r.t.Helper()
	asked := time.Now()
	v := r.askAs(name, class)
	if v.Kind != kind {
		r.t.Errorf("%s: got %s (%s), want %s", name, v.Kind, v.Reason, kind)
	}
	if got := time.Since(asked); got != took {
		r.t.Errorf("%s: answered after %s, want %s", name, got, took)
	}
}

// bubble runs a test in fake time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld()) })
}
