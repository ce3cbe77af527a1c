package mtasts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnsclient"
)

// dialer is a network on which every address behaves as it is told.
type dialer struct {
	// after is how long an address takes to answer; absent is never.
	after map[string]time.Duration
	// fails are the addresses that answer with an error.
	fails map[string]error
	start time.Time

	mu    sync.Mutex // guards what follows
	tried []string
	open  int
}

func (d *dialer) dial(ctx context.Context, _, address string) (net.Conn, error) {
	d.mu.Lock()
	d.tried = append(d.tried, fmt.Sprintf("%s after %v", address, time.Since(d.start)))
	d.mu.Unlock()
	wait, ok := d.after[address]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(wait):
	case <-ctx.Done():
		// What stands at the last moment must be closed too.
	}
	if err := d.fails[address]; err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	ours, _ := net.Pipe()
	return &countedConn{Conn: ours, address: address, d: d}, nil
}

// count returns how many connections are open.
func (d *dialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

type countedConn struct {
	net.Conn
	address string
	d       *dialer
	closed  sync.Once
}

func (c *countedConn) Close() error {
	c.closed.Do(func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		c.d.open--
	})
	return c.Conn.Close()
}

func addrs(list ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// newTransfer returns a transfer that is about to connect.
func newTransfer(d *dialer) *transfer {
	first, _ := newGates(time.Minute)
	return &transfer{fetcher: &fetcher{dial: d.dial}, gate: first, patient: time.Now().Add(first.patience)}
}

// checkNothingLeft checks that what was taken was given back.
func checkNothingLeft(t *testing.T, d *dialer, g *gate) {
	t.Helper()
	if open := d.count(); open != 0 || len(g.slots.inUse) != 0 || len(g.places) != 0 {
		t.Errorf("%d connections, %d slots and %d places are left", open, len(g.slots.inUse), len(g.places))
	}
}

func TestRace(t *testing.T) {
	const ms = time.Millisecond
	refused := map[string]error{
		"[2600::1]:443": syscall.ECONNREFUSED, "198.41.0.4:443": syscall.ENETUNREACH,
	}
	tests := []struct {
		name   string
		d      *dialer
		addrs  []netip.Addr
		winner string // empty: the error is err
		err    string
		took   time.Duration
		tried  []string
	}{
		{
			"the first answers at once",
			&dialer{after: map[string]time.Duration{"[2600::1]:443": 10 * ms, "198.41.0.4:443": ms}},
			addrs("2600::1", "198.41.0.4"), "[2600::1]:443", "", 10 * ms,
			[]string{"[2600::1]:443 after 0s"},
		}, {
			"the first is slower than stagger and the second together",
			&dialer{after: map[string]time.Duration{"[2600::1]:443": 400 * ms, "198.41.0.4:443": 100 * ms}},
			addrs("2600::1", "198.41.0.4"), "198.41.0.4:443", "", 350 * ms,
			[]string{"[2600::1]:443 after 0s", "198.41.0.4:443 after 250ms"},
		}, {
			"the first is a black hole",
			&dialer{after: map[string]time.Duration{"198.41.0.4:443": ms}},
			addrs("2600::1", "198.41.0.4"), "198.41.0.4:443", "", 251 * ms,
			[]string{"[2600::1]:443 after 0s", "198.41.0.4:443 after 250ms"},
		}, {
			"the first is refused",
			&dialer{after: map[string]time.Duration{"[2600::1]:443": 5 * ms, "198.41.0.5:443": ms}, fails: refused},
			addrs("2600::1", "198.41.0.5"), "198.41.0.5:443", "", 6 * ms,
			[]string{"[2600::1]:443 after 0s", "198.41.0.5:443 after 5ms"},
		}, {
			"all are refused",
			&dialer{after: map[string]time.Duration{"[2600::1]:443": 5 * ms, "198.41.0.4:443": ms}, fails: refused},
			addrs("2600::1", "198.41.0.4"), "", "connecting to [2600::1]:443: connection refused (and 1 more addresses)", 6 * ms,
			[]string{"[2600::1]:443 after 0s", "198.41.0.4:443 after 5ms"},
		}, {
			"the only one is refused",
			&dialer{after: map[string]time.Duration{"198.41.0.4:443": ms}, fails: refused},
			addrs("198.41.0.4"), "", "connecting to 198.41.0.4:443: network is unreachable", ms,
			[]string{"198.41.0.4:443 after 0s"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.d.start = time.Now()
				tr := newTransfer(tt.d)
				conn, err := tr.race(t.Context(), tt.addrs)
				if took := time.Since(tt.d.start); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if !slices.Equal(tt.d.tried, tt.tried) {
					t.Errorf("tried %q, want %q", tt.d.tried, tt.tried)
				}
				if tt.winner == "" {
					if err == nil || err.Error() != tt.err {
						t.Errorf("got error %v, want %s", err, tt.err)
					}
				} else if err != nil {
					t.Fatal(err)
				} else {
					if got := conn.Conn.(*countedConn).address; got != tt.winner {
						t.Errorf("got %s, want %s", got, tt.winner)
					}
					conn.Close()
				}
				checkNothingLeft(t, tt.d, tr.gate)
			})
		})
	}
}

func TestRaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dialer{start: time.Now()}
		tr := newTransfer(&d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := tr.race(ctx, addrs("198.41.0.1", "198.41.0.2", "198.41.0.3", "198.41.0.4", "198.41.0.5", "198.41.0.6"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(d.start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(d.start))
		}
		checkNothingLeft(t, &d, tr.gate)
	})
}

// silent is a DNS that never answers.
type silent struct{}

func (silent) Query(ctx context.Context, _ string, _ uint16) (dnsclient.Answer, error) {
	<-ctx.Done()
	return dnsclient.Answer{}, ctx.Err()
}
