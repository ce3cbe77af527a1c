//go:build e2e

// Package lifecycle_test follows the policies of domains through all that can
// happen to them while the daemon runs, stops and comes back: over real
// sockets, on the real clock, with cache.recheck of a second and policies that
// live for seconds. The rules of time themselves are tested in packages cache
// and mtasts.
package lifecycle_test

import (
	"slices"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

func TestMain(m *testing.M) { world.Main(m) }

const (
	// recheck is cache.recheck.
	recheck = time.Second
	// day is a max_age that does not end during a test, in seconds.
	day = 86400
	// slack is what a machine that does other things too may take on top of a
	// time that a rule gives.
	slack = time.Second
	// prompt is what an answer from memory takes at most, and slow what no
	// answer takes that waits for nothing; whatever does wait, does so for a
	// second at least. The daemon has the race detector in it.
	prompt = 10 * time.Millisecond
	slow   = 500 * time.Millisecond
)

// start starts a daemon in a world of its own.
func start(t *testing.T, o world.Options) (*world.World, *world.Daemon) {
	t.Helper()
	w := world.New(t)
	o.Program = world.Build(t, "-race")
	return w, w.Start(t, o)
}

// restart kills the daemon and starts it again with the same memory.
func restart(t *testing.T, w *world.World, d *world.Daemon, o world.Options) *world.Daemon {
	t.Helper()
	d.Kill(t)
	o.Program, o.State = world.Build(t, "-race"), d.State
	return w.Start(t, o)
}

// mx is the MX host in the policies of a domain, the one in its policy of that
// name.
func mx(name, domain string) string { return name + "." + domain }

// enforce is a policy with one MX host, and secure the reply that it makes.
func enforce(name, domain string, maxAge int) string { return world.Enforce(maxAge, mx(name, domain)) }
func secure(name, domain string) string              { return world.Secure(mx(name, domain)) }

// want asks for a domain and compares the reply.
func want(t *testing.T, d *world.Daemon, domain, reply string) {
	t.Helper()
	if got := d.Ask(t, domain); got != reply {
		t.Fatalf("%s: the reply is %q, want %q; the log:\n%s", domain, got, reply, d.Log.String())
	}
}

// sighting is what was seen of a domain in a while.
type sighting struct {
	// replies are those that differ from the one before, and since when each
	// was seen.
	replies []string
	since   []time.Time
	// last is when the last but one of the replies was seen for the last
	// time.
	last time.Time
	took []time.Duration
}

// watch asks for a domain again and again, over one connection.
func watch(t *testing.T, d *world.Daemon, domain string, while time.Duration) sighting {
	t.Helper()
	client, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var s sighting
	var before time.Time
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		asked := time.Now()
		reply, err := client.Lookup(t.Context(), "policy", domain)
		if err != nil {
			t.Fatalf("asking for %s: %v; the log:\n%s", domain, err, d.Log.String())
		}
		s.took = append(s.took, time.Since(asked))
		if n := len(s.replies); n == 0 || s.replies[n-1] != reply.String() {
			s.replies = append(s.replies, reply.String())
			s.since = append(s.since, time.Now())
			s.last = before
		}
		before = asked
	}
	return s
}

// want compares all that was seen, in order.
func (s sighting) want(t *testing.T, replies ...string) {
	t.Helper()
	if !slices.Equal(s.replies, replies) {
		t.Fatalf("seen were %q, want %q", s.replies, replies)
	}
}

// wantPrompt checks that no answer waited for anything.
func (s sighting) wantPrompt(t *testing.T) {
	t.Helper()
	took := slices.Sorted(slices.Values(s.took))
	median, most := took[len(took)/2], took[len(took)-1]
	if median > prompt || most > slow {
		t.Errorf("of %d answers the median took %v and the slowest %v, want at most %v and %v", len(took), median, most, prompt, slow)
	}
}

// eventually asks until the reply is as wanted. Until then it must be the
// reply before.
func eventually(t *testing.T, d *world.Daemon, domain, before, after string, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		got := d.Ask(t, domain)
		if got == after {
			return
		}
		if got != before || time.Now().After(end) {
			t.Fatalf("%s: the reply is %q, want %q within %v, and %q before; the log:\n%s",
				domain, got, after, within, before, d.Log.String())
		}
	}
}
