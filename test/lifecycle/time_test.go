//go:build e2e

package lifecycle_test

import (
	"testing"
	"time"

	"tlspolicyd/test/world"
)

// A policy ends to the second max_age after its fetch, however often the TXT
// record says that it has not changed.
func TestExpiry(t *testing.T) {
	t.Parallel()
	const domain, maxAge = "expiry.test", 6
	w, d := start(t, world.Options{})
	w.Publish(t, domain, "1", enforce("mx", domain, maxAge))
	asked := time.Now()
	want(t, d, domain, secure("mx", domain))
	answered := time.Now()
	w.Hosts.Turn(domain, world.Dead)
	seen := watch(t, d, domain, (maxAge+1)*time.Second)
	seen.want(t, secure("mx", domain), world.NotFound)
	earliest, latest := asked.Add(maxAge*time.Second), answered.Add(maxAge*time.Second)
	if first := seen.since[1]; first.Before(earliest) {
		t.Errorf("the policy ended %v too early", earliest.Sub(first))
	}
	if seen.last.After(latest) {
		t.Errorf("the policy was answered %v too long", seen.last.Sub(latest))
	}
}

// A policy is fetched again at half of its life although nobody asks, so that
// what changed under the same id is there when somebody does.
func TestRefreshUnasked(t *testing.T) {
	t.Parallel()
	const domain, maxAge = "refresh.test", 6
	w, d := start(t, world.Options{})
	w.Publish(t, domain, "1", enforce("old", domain, maxAge))
	want(t, d, domain, secure("old", domain))
	w.Publish(t, domain, "1", enforce("new", domain, maxAge))
	time.Sleep(maxAge*time.Second/2 - time.Second)
	if n := w.Hosts.Fetches(domain); n != 1 {
		t.Errorf("the policy was fetched %d times before a third of its life was over, want once", n)
	}
	// The store is asked once in a second for what is due.
	waitFetches(t, w, domain, 2, 2*time.Second+slack)
	eventually(t, d, domain, secure("old", domain), secure("new", domain), slack)
}

// There is no moment without a policy, neither where refreshes work, nor where
// they begin to work again as it ends, nor where a policy lives too short to
// be refreshed.
func TestNoGap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		maxAge        int
		fails, works  time.Duration
		while         time.Duration
		fetchesAtMost int
	}{
		{name: "refreshed", maxAge: 3, while: 9 * time.Second, fetchesAtMost: 9},
		{name: "refreshed at last", maxAge: 5, fails: time.Second, works: 4800 * time.Millisecond, while: 9 * time.Second, fetchesAtMost: 9},
		{name: "renewed by queries", maxAge: 1, while: 4 * time.Second, fetchesAtMost: 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const domain = "gap.test"
			w, d := start(t, world.Options{})
			w.Publish(t, domain, "1", enforce("mx", domain, c.maxAge))
			want(t, d, domain, secure("mx", domain))
			if c.fails > 0 {
				fail := time.AfterFunc(c.fails, func() { w.Hosts.Turn(domain, world.Missing) })
				work := time.AfterFunc(c.works, func() { w.Hosts.Turn(domain, world.Well) })
				defer fail.Stop()
				defer work.Stop()
			}
			watch(t, d, domain, c.while).want(t, secure("mx", domain))
			if n := w.Hosts.Fetches(domain); n < 2 || n > c.fetchesAtMost {
				t.Errorf("the policy was fetched %d times, want more than once and at most %d times", n, c.fetchesAtMost)
			}
		})
	}
}

// A first fetch that failed is not tried again soon, whether the daemon is
// restarted or not.
func TestFailedFetchSurvivesRestart(t *testing.T) {
	t.Parallel()
	const domain = "refused.test"
	o := world.Options{Recheck: time.Minute}
	w, d := start(t, o)
	w.Hosts.Turn(domain, world.Missing)
	w.Publish(t, domain, "1", enforce("mx", domain, day))
	want(t, d, domain, world.NotFound)
	w.Hosts.Turn(domain, world.Well)
	for range 3 {
		d = restart(t, w, d, o)
		want(t, d, domain, world.NotFound)
	}
	if n := w.Hosts.Fetches(domain); n != 1 {
		t.Errorf("the policy host was asked %d times, want once", n)
	}
	// A daemon that has learned nothing yet asks.
	o.Program = world.Build(t, "-race")
	want(t, w.Start(t, o), domain, secure("mx", domain))
}

// The time between refreshes that fail doubles, and goes on doing so after a
// crash.
func TestBackoffSurvivesRestart(t *testing.T) {
	t.Parallel()
	const domain = "backoff.test"
	o := world.Options{Refresh: 2 * time.Second}
	w, d := start(t, o)
	w.Publish(t, domain, "1", enforce("mx", domain, day))
	want(t, d, domain, secure("mx", domain))
	w.Hosts.Turn(domain, world.Missing)
	// One fetch that worked, and failures after about 2, 3, 5 and 9 s, and up
	// to a second more for each.
	waitFetches(t, w, domain, 5, 20*time.Second+slack)
	time.Sleep(slack / 2) // until the failure is written down, too
	d = restart(t, w, d, o)
	// The next is due 8 s after the last, which was a moment ago.
	time.Sleep(5 * time.Second)
	want(t, d, domain, secure("mx", domain))
	if n := w.Hosts.Fetches(domain); n != 5 {
		t.Errorf("the policy host was asked %d times after the restart, want none before the back-off is over", n-5)
	}
	waitFetches(t, w, domain, 6, 5*time.Second)
	// It doubles from where it was: to 16 s, not to a second.
	time.Sleep(3 * time.Second)
	if n := w.Hosts.Fetches(domain); n != 6 {
		t.Errorf("the policy host was asked %d times in 3 s after the next failure, want none: the back-off was forgotten", n-6)
	}
}

func waitFetches(t *testing.T, w *world.World, domain string, n int, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); w.Hosts.Fetches(domain) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the policy of %s was fetched %d times in %v, want %d", domain, w.Hosts.Fetches(domain), within, n)
		}
	}
}
