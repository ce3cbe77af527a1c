//go:build e2e

package crash_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/boltstore"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/world"
)

const (
	// copied is how many policies are in the store that is damaged, and copies
	// how often the daemon is killed while it copies them, and after that.
	copied, copies = 2500, 40
	copiedZone     = "copied.test"
	// copyWithin is how long it may take until everything is copied.
	copyWithin = 30 * time.Second
	// longestCopy is how long the daemon copies at most before it is killed.
	longestCopy = 40 * time.Millisecond
	// wasCopied is what it says when it is done.
	wasCopied = "what can be read of a damaged store was copied"
)

// A daemon that is killed again and again while it copies what can be read of a
// damaged store loses nothing of what a daemon keeps that is not killed. What
// is lost to both is deferred, never "no policy".
func TestCrashWhileCopying(t *testing.T) {
	w := world.New(t)
	w.Pattern(t, map[string]string{copiedZone: "1"})
	o := world.Options{Program: world.Build(t), State: w.Dir(t)}
	image := damagedStore(t)
	putStore(t, o.State, image)
	w.Die()
	d := w.Start(t, o)
	askCopied(t, d)
	d.WaitLog(t, copyWithin, wasCopied)
	undisturbed := askCopied(t, d)
	if n := len(undisturbed); n == copied || n < copied/2 {
		t.Fatalf("%d of %d policies were saved, want most of them and not all", n, copied)
	}
	d.Kill(t)

	o.State = w.Dir(t)
	putStore(t, o.State, image)
	interrupted, complete := 0, false
	for range copies {
		d := w.Start(t, o)
		time.AfterFunc(rand.N(longestCopy), func() { d.Kill(t) })
		askUntilKilled(t, d)
		if complete = complete || len(d.Log.About(wasCopied)) > 0; !complete {
			interrupted++
		}
	}
	if interrupted == 0 {
		t.Error("the copy was complete before the first kill")
	}
	d = w.Start(t, o)
	var left map[int]bool
	for end := time.Now().Add(copyWithin); ; time.Sleep(100 * time.Millisecond) {
		left = askCopied(t, d)
		if len(left) >= len(undisturbed) || time.Now().After(end) {
			break
		}
	}
	lost := 0
	for i := range undisturbed {
		if !left[i] {
			lost++
		}
	}
	t.Logf("%d kills before the copy was complete; of %d policies %d could be read, %d of these were lost",
		interrupted, copied, len(undisturbed), lost)
	if lost > 0 {
		t.Errorf("%d policies were lost; the log:\n%s", lost, d.Log.String())
	}
}

// damagedStore makes a store with some pages overwritten, and returns the file.
func damagedStore(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policies.db")
	s, err := boltstore.Open(t.Context(), boltstore.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	var saving sync.WaitGroup
	for part := range 256 {
		saving.Go(func() {
			for i := part; i < copied; i += 256 {
				name, err := policy.ParseDomain(copiedName(i))
				if err == nil {
					err = s.Save(t.Context(), cache.Record{
						Domain: name, Text: world.Enforce(day, host(copiedName(i), 0)), ID: "1",
						Fetched: now, Expires: now.Add(day * time.Second), Refresh: now.Add(time.Hour), LastUse: now,
					})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	saving.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page, damage = 4096, 20
	random := rand.New(rand.NewPCG(7, 7))
	for range damage {
		at := (2 + random.IntN(len(image)/page-2)) * page
		for i := range page {
			image[at+i] = byte(random.Uint32())
		}
	}
	return image
}

func copiedName(i int) string { return fmt.Sprintf("d%d.%s", i, copiedZone) }

func putStore(t *testing.T, state string, image []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(state, "policies.db"), image, 0o600); err != nil {
		t.Fatal(err)
	}
}

// askCopied asks for every domain and returns those whose policy is there.
func askCopied(t *testing.T, d *world.Daemon) map[int]bool {
	t.Helper()
	right, err := askAll(t, d)
	if err != nil {
		t.Fatalf("%v; the log:\n%s", err, d.Log.String())
	}
	return right
}

// askUntilKilled asks for the domains until the daemon is dead.
func askUntilKilled(t *testing.T, d *world.Daemon) {
	t.Helper()
	for {
		if _, err := askAll(t, d); err != nil || t.Failed() {
			return
		}
	}
}

func askAll(t *testing.T, d *world.Daemon) (map[int]bool, error) {
	t.Helper()
	client, err := d.Dial(t.Context())
	if err != nil {
		return nil, err
	}
	defer client.Close()
	right := make(map[int]bool)
	for i := range copied {
		reply, err := client.Lookup(t.Context(), "policy", copiedName(i))
		if err != nil {
			return nil, err
		}
		switch got := reply.String(); {
		case got == world.Secure(host(copiedName(i), 0)):
			right[i] = true
		case !strings.HasPrefix(got, "TEMP "):
			t.Fatalf("%s: the reply is %q, want the policy or TEMP; the log:\n%s", copiedName(i), got, d.Log.String())
		}
	}
	return right, nil
}
