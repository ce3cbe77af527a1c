package mtasts

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// crowd is many fetches at the same time on a network on which every connection
// stands at once, and hangs.
type crowd struct {
	*Resolver
	t     *testing.T
	zones *dnstest.Resolver
	zone  strings.Builder
	d     *dialer
	wg    sync.WaitGroup

	mu  sync.Mutex // guards got
	got map[string]int
}

// crowded runs a test with a crowd in a bubble; a proxy of nil means none.
func crowded(t *testing.T, proxy *url.URL, test func(c *crowd)) {
	t.Helper()
	ca := newAuthority(t, "Test Root")
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{t: t, d: &dialer{after: make(map[string]time.Duration), start: time.Now()}, got: make(map[string]int)}
		c.Resolver, c.zones = newInMemory(t, ca, func(o *Options) { o.Dial, o.Proxy = c.d.dial, proxy })
		test(c)
	})
}

// publish gives the policy host of a domain addresses that hang.
func (c *crowd) publish(domain string, addresses ...string) {
	for _, s := range addresses {
		addr := netip.MustParseAddr(s)
		qtype := "A"
		if addr.Is6() {
			qtype = "AAAA"
		}
		fmt.Fprintf(&c.zone, "mta-sts.%s. %s %s\n", domain, qtype, s)
		c.d.after[netip.AddrPortFrom(addr, httpsPort).String()] = 0
	}
	c.zones.SetZone(c.zone.String())
}

// fetch begins n fetches that follow prev, and counts how they end: by the kind
// of the failure, or as put off.
func (c *crowd) fetch(n int, domain string, prev policy.STS) {
	for range n {
		c.wg.Go(func() {
			next := c.Fetch(c.t.Context(), mustDomain(c.t, domain), prev)
			end := next.Failure.Kind
			if next.Failure == prev.Failure && next.Policy == prev.Policy && next.Wanted == prev.Wanted {
				end = "put off"
			}
			c.mu.Lock()
			c.got[end]++
			c.mu.Unlock()
		})
	}
	synctest.Wait()
}

// ask begins n first fetches.
func (c *crowd) ask(n int, domain string) { c.fetch(n, domain, policy.STS{Wanted: "1"}) }

// sleep lets time pass, and all happen that does by then.
func (c *crowd) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *crowd) wantOpen(want int) {
	c.t.Helper()
	if open := c.d.count(); open != want {
		c.t.Errorf("%d connections are open, want %d", open, want)
	}
}

// wantEnds checks how the fetches ended that did so by now.
func (c *crowd) wantEnds(end string, want int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.got[end] != want {
		c.t.Errorf("%d ended with %q, want %d; all: %v", c.got[end], end, want, c.got)
	}
}

func (c *crowd) finish() {
	c.t.Helper()
	c.wg.Wait()
	for _, g := range []*gate{c.fetcher.first, c.fetcher.refresh} {
		checkNothingLeft(c.t, c.d, g)
	}
}

func TestConnectionsToOneAddressAreBounded(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		c.publish("example.com", "198.41.0.4")
		c.publish("example.net", "198.41.0.5")
		c.ask(600, "example.com")
		c.wantOpen(64)
		// Only so many wait; to the others it is said at once.
		c.wantEnds("put off", 600-64-512)
		c.ask(64, "example.net")
		c.wantOpen(128)

		c.sleep(10*time.Second - time.Millisecond)
		c.wantEnds("put off", 600-64-512)
		c.sleep(time.Millisecond)
		c.wantEnds("put off", 600-64)
		c.finish()
		c.wantEnds("timeout", 128)
	})
}

func TestPlaceThatIsGivenBackGoesToWhoWaits(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		c.publish("example.com", "198.41.0.4")
		c.ask(64, "example.com")
		time.Sleep(55 * time.Second)
		c.ask(64, "example.com")
		c.wantOpen(64)
		c.sleep(6 * time.Second)
		c.wantOpen(64)
		// Who waited has the rest of his minute.
		c.sleep(53 * time.Second)
		c.wantOpen(64)
		c.finish()
		c.wantEnds("timeout", 128)
	})
}

func TestConnectionsAreBoundedInAll(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		if n := cap(c.fetcher.first.places); n != 2048 {
			c.t.Errorf("%d connections are allowed, want 2048", n)
		}
		c.fetcher.first.places = make(chan struct{}, 128)
		for i := range 3 {
			domain := fmt.Sprintf("d%d.example", i)
			c.publish(domain, fmt.Sprintf("198.41.0.%d", i))
			c.ask(64, domain)
		}
		c.wantOpen(128)
		c.finish()
		c.wantEnds("put off", 64)
	})
}

func TestAddressesOfOneSubnetCountAsOne(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		for i := range 10 {
			domain := fmt.Sprintf("d%d.example", i)
			c.publish(domain, fmt.Sprintf("2600:1:2:3::%d", i+1))
			c.ask(10, domain)
		}
		c.wantOpen(64)
		c.publish("example.net", "2600:1:2:4::1")
		c.ask(1, "example.net")
		c.wantOpen(65)
		c.finish()
	})
}

func TestFetchGoesToTheAddressThatHasAPlace(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		c.publish("example.com", "198.41.0.4")
		c.publish("example.net", "198.41.0.4", "198.41.0.5")
		c.ask(64, "example.com")
		c.ask(1, "example.net")
		c.sleep(time.Second)
		c.wantOpen(65)
		c.finish()
	})
}

// A provider that hangs has a quarter of the places for refreshes, and no part
// in those of questions.
func TestRefreshesOfOneAddressAreBounded(t *testing.T) {
	crowded(t, nil, func(c *crowd) {
		c.publish("example.com", "198.41.0.4")
		begun := time.Now()
		prev := policy.STS{Policy: enforce(7 * 24 * time.Hour), ID: "1", Fetched: begun, Refresh: begun}
		c.fetch(32, "example.com", prev)
		c.wantOpen(8)
		c.sleep(time.Second)
		c.wantEnds("put off", 24)
		c.ask(64, "example.com")
		c.wantOpen(72)
		c.finish()
		c.wantEnds("timeout", 72)
	})
}

func TestPutOff(t *testing.T) {
	const day = 24 * time.Hour
	inForce := learned(7 * day)
	changed := inForce
	changed.Wanted, changed.Recheck = "B", at(day+time.Hour)
	short := learned(day)
	tests := []struct {
		name    string
		prev    policy.STS
		spread  float64
		recheck time.Time
		refresh time.Time
	}{
		{"a first fetch", policy.STS{Wanted: "A", Recheck: at(day + time.Hour)}, 0.5, at(day + time.Minute), time.Time{}},
		{"a changed id", changed, 0.5, at(day + time.Minute), inForce.Refresh},
		{"a refresh, at the soonest", inForce, 0, inForce.Recheck, at(day + 5*time.Minute)},
		{"a refresh, at the latest", inForce, 1, inForce.Recheck, at(day + 6*time.Hour)},
		{"of a policy that is over", short, 0, short.Recheck, time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := production.afterFetch(at(day), tt.prev, fetchOutcome{started: at(day), kind: resultBusy, spread: tt.spread})
			want := tt.prev
			want.Recheck, want.Refresh = tt.recheck, tt.refresh
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	late := learned(8 * time.Hour)
	got := production.afterFetch(at(4*time.Hour), late, fetchOutcome{kind: resultBusy, spread: 1})
	if want := at(5 * time.Hour); !got.Refresh.Equal(want) {
		t.Errorf("with four hours left, the refresh is at %v, want %v", got.Refresh, want)
	}
}

func TestConnectionsThroughAProxyAreBoundedInAll(t *testing.T) {
	proxy := &url.URL{Scheme: "http", Host: "proxy.example:3128"}
	crowded(t, proxy, func(c *crowd) {
		c.d.after[proxy.Host] = 0
		c.fetcher.first.places = make(chan struct{}, 128)
		c.ask(150, "example.com")
		c.wantOpen(128)
		c.finish()
		c.wantEnds("put off", 22)
	})
}
