//go:build e2e

// Package crash_test kills the running daemon with kill -9, again and again,
// while it learns new policies and changed ones, and counts what it has
// forgotten of what it answered.
package crash_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

func TestMain(m *testing.M) { world.Main(m) }

// kills is how often the daemon is killed; "make crash" wants more.
var kills = flag.Int("kills", 25, "how often to kill the daemon")

const (
	// clients ask for new domains, each over a connection of its own; they are
	// far more than commits at a time, so that commits are shared.
	clients = 24
	// changing is how many domains change their policy from one kill to the
	// next.
	changing = 40
	// shortest and longest are how long the daemon is under load before it is
	// killed.
	shortest, longest = 50 * time.Millisecond, 500 * time.Millisecond
	// recheck is cache.recheck: changes are to be seen while there is load.
	recheck = 100 * time.Millisecond
	// day is a max_age that does not end during the test, in seconds.
	day = 86400
)

// Domains below newZone have one policy for ever, those below changingZone
// have another in every round.
const newZone, changingZone = "new.test", "changing.test"

// What was answered "secure" before a kill -9 is answered the same after it,
// with the records gone and the policy hosts dead: nothing is forgotten, and
// no policy gives way to one that came before it.
func TestCrash(t *testing.T) {
	w := world.New(t)
	o := world.Options{Program: world.Build(t), State: w.Dir(t), Recheck: recheck, LogLevel: "error"}
	m := &memory{answered: make(map[string]int64)}
	w.Hosts.Pattern(m.policy)
	for range *kills {
		w.Die()
		d := w.Start(t, o)
		m.verify(t, d, m.takeLatest())
		w.Revive()
		round := m.round.Add(1)
		w.Pattern(t, map[string]string{newZone: "1", changingZone: fmt.Sprint(round)})
		m.load(t, d, shortest+rand.N(longest-shortest))
	}
	w.Die()
	m.verify(t, w.Start(t, o), m.all())
	t.Logf("%d kills; before them %d policies and %d changes of policies were answered; %d were lost",
		*kills, m.learned, m.changed, m.lost)
	if m.learned < *kills || m.changed < *kills {
		t.Error("the daemon was killed without having learned much")
	}
}

// memory is what the daemon has answered, and so must not forget.
type memory struct {
	// round is the number of the load that is next or under way, and asked
	// that of the last new domain.
	round, asked atomic.Int64

	mu sync.Mutex // guards what follows
	// answered holds the domains that were answered "secure", and the round
	// that their policy is of.
	answered map[string]int64
	// latest are those of them that were answered in the last load.
	latest map[string]struct{}
	// learned and changed count policies of new domains, and those that took
	// the place of another.
	learned, changed, lost int
}

// policy is what the policy host of a domain answers.
func (m *memory) policy(domain string) string {
	if strings.HasSuffix(domain, changingZone) {
		return world.Enforce(day, host(domain, m.round.Load()))
	}
	return world.Enforce(day, host(domain, 0))
}

// host names the MX host of a domain after the round that its policy is of.
func host(domain string, round int64) string { return fmt.Sprintf("mx%d.%s", round, domain) }

// roundOf is the round that the policy in a reply is of.
func roundOf(reply, domain string) (int64, bool) {
	var round int64
	if _, err := fmt.Sscanf(reply, "OK secure match=mx%d.", &round); err != nil {
		return 0, false
	}
	return round, reply == world.Secure(host(domain, round))
}

// load has all clients ask until the daemon is killed under their hands. The
// first answer after a while is what kills it: whatever should have been written
// before that answer has to be there at this very moment.
func (m *memory) load(t *testing.T, d *world.Daemon, while time.Duration) {
	t.Helper()
	var killed atomic.Bool
	var asking sync.WaitGroup
	end := time.Now().Add(while)
	for range clients {
		asking.Go(func() {
			client, err := d.Dial(t.Context())
			if err != nil {
				t.Errorf("connecting: %v", err)
				return
			}
			defer client.Close()
			for i := 0; ; i++ {
				domain := m.pick(i)
				reply, err := client.Lookup(t.Context(), "policy", domain)
				if err != nil {
					if !killed.Load() {
						t.Errorf("asking for %s: %v", domain, err)
					}
					return
				}
				if i%2 == 0 && time.Now().After(end) && killed.CompareAndSwap(false, true) {
					d.Kill(t)
				}
				m.note(t, domain, reply.String())
			}
		})
	}
	asking.Wait()
	if lines := d.Log.About("panic", "damaged"); len(lines) > 0 {
		t.Errorf("the daemon said %q", lines)
	}
}

// pick returns the domain of a client's next question: every other one is new.
func (m *memory) pick(i int) string {
	if i%2 == 0 {
		return fmt.Sprintf("d%d.%s", m.asked.Add(1), newZone)
	}
	return fmt.Sprintf("d%d.%s", rand.N(changing), changingZone)
}

// note remembers a reply of a load.
func (m *memory) note(t *testing.T, domain, reply string) {
	round, ok := roundOf(reply, domain)
	if !ok {
		t.Errorf("%s: the reply is %q, want a policy", domain, reply)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, known := m.answered[domain]
	switch {
	case !known:
		m.learned++
	case round > before:
		m.changed++
	}
	// Of two clients the one with the older answer may come here later.
	m.answered[domain] = max(round, before)
	if m.latest == nil {
		m.latest = make(map[string]struct{})
	}
	m.latest[domain] = struct{}{}
}

// takeLatest returns the domains that were answered in the last load.
func (m *memory) takeLatest() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	latest := slices.Collect(maps.Keys(m.latest))
	m.latest = nil
	return latest
}

func (m *memory) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.answered))
}

// verify asks for domains in a world that says nothing of their policies.
func (m *memory) verify(t *testing.T, d *world.Daemon, domains []string) {
	t.Helper()
	var asking sync.WaitGroup
	for part := range slices.Chunk(domains, max(1, (len(domains)+clients-1)/clients)) {
		asking.Go(func() {
			client, err := d.Dial(t.Context())
			if err != nil {
				t.Errorf("connecting: %v", err)
				return
			}
			defer client.Close()
			for _, domain := range part {
				reply, err := client.Lookup(t.Context(), "policy", domain)
				if err != nil {
					t.Errorf("asking for %s: %v", domain, err)
					return
				}
				m.compare(t, domain, reply.String())
			}
		})
	}
	asking.Wait()
	if t.Failed() {
		t.Fatalf("after %d kills; the log:\n%s", m.round.Load(), d.Log.String())
	}
}

// compare counts a policy as lost if a reply does not hold it. One that is
// newer than the last that was answered was written, and not answered yet.
func (m *memory) compare(t *testing.T, domain, reply string) {
	round, ok := roundOf(reply, domain)
	m.mu.Lock()
	defer m.mu.Unlock()
	if before := m.answered[domain]; !ok || round < before {
		m.lost++
		t.Errorf("%s: the reply is %q, want the policy of round %d", domain, reply, before)
	}
}
