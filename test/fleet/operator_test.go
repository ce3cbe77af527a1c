//go:build e2e

package fleet_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/redis"
	"tlspolicyd/test/world"
)

// console is where the operator of a relay sits. It keeps what he was shown.
type console struct {
	*world.Daemon
	shown strings.Builder
}

// run runs a command that exits with code, and returns what it says.
func (c *console) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, messages, got := c.Command(t, args...)
	c.shown.WriteString(out + messages)
	if got != code {
		t.Errorf("%q exits with %d, want %d:\n%s%s", args, got, code, out, messages)
	}
	return out + messages
}

// wants runs a command, and wants a line of what it says to match a pattern.
func (c *console) wants(t *testing.T, code int, line string, args ...string) {
	t.Helper()
	if out := c.run(t, code, args...); !regexp.MustCompile("(?m)^" + line + "$").MatchString(out) {
		t.Errorf("%q says\n%s\nwant a line %q", args, out, line)
	}
}

// sharedStatus is what "status --json" says of the shared store.
type sharedStatus struct {
	Unshared int `json:"unshared"`
	Shared   struct {
		Address string    `json:"address"`
		Up      bool      `json:"up"`
		Since   time.Time `json:"since"`
		Error   string    `json:"error"`
	} `json:"shared"`
}

// await waits until the shared store is in reach or not, and so many domains are
// to be brought up to date in it.
func (c *console) await(t *testing.T, up bool, unshared int) sharedStatus {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		var s sharedStatus
		text := c.run(t, 0, "status", "--json")
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if s.Shared.Up == up && s.Unshared == unshared {
			return s
		}
		if time.Since(begun) > soon {
			t.Fatalf("after %v, the status is %+v, want up %v and %d unshared", soon, s, up, unshared)
		}
	}
}

// pages wants what machines see: whether the shared store is in reach, and that
// Postfix is answered, whatever becomes of that.
func (c *console) pages(t *testing.T, up int) {
	t.Helper()
	_, text := c.Page(t, "/metrics")
	c.shown.WriteString(text)
	if line := "tlspolicyd_shared_store_up " + strconv.Itoa(up); !strings.Contains(text, "\n"+line+"\n") {
		t.Errorf("the metrics lack %q", line)
	}
	for _, path := range []string{"/readyz", "/healthz"} {
		if code, body := c.Page(t, path); code != http.StatusOK {
			t.Errorf("%s is %d: %s", path, code, body)
		}
	}
}

func (f *fleet) consoles() (all [relays]*console) {
	for i, d := range f.relays {
		all[i] = &console{Daemon: d}
	}
	return all
}

// learn has a relay learn the policy of a new domain and save it in the Redis.
func (f *fleet) learn(t *testing.T, d *world.Daemon, domain string) {
	t.Helper()
	f.Publish(t, domain, "1", world.Enforce(week, "mx."+domain))
	await(t, d, domain, world.Secure("mx."+domain))
	f.awaitShared(t, domain)
}

// holds reports whether the Redis holds the policy of a domain.
func (f *fleet) holds(domain string) bool {
	return f.redis.Do("EXISTS", "tlspolicyd:policy:1:"+domain) == "1"
}

// awaitRemoval waits until the Redis holds no policy of a domain.
func (f *fleet) awaitRemoval(domain string) {
	f.redis.Await("removal of "+domain, func() bool { return !f.holds(domain) })
}

const (
	sharedUser     = "somerelay"
	sharedPassword = "correct-horse"
)

// startProtected starts a fleet whose Redis wants a user and a password.
func startProtected(t *testing.T) *fleet {
	t.Helper()
	server := redis.Start(t, redis.Redis)
	server.Do("ACL", "SETUSER", sharedUser, "on", ">"+sharedPassword, "allkeys", "allchannels", "allcommands")
	server.Do("ACL", "SETUSER", "default", "off")
	server.CLI = []string{"--user", sharedUser, "--pass", sharedPassword, "--no-auth-warning"}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(sharedPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startWith(t, server, "redis://"+sharedUser+"@", world.Options{SharedPassword: file, LogLevel: "debug"})
}

// Each relay says whether it reaches the Redis, and since when, and tells nobody
// the password.
func TestOperatorSeesAPartition(t *testing.T) {
	t.Parallel()
	f := startProtected(t)
	all := f.consoles()
	const inReach = `shared store  redis://127\.0\.0\.1:\d+: in reach since 20\d\d-\S+ \S+ UTC \(.+\); 0 domains to be saved in it or removed from it`
	for _, c := range all {
		c.await(t, true, 0)
		c.wants(t, 0, inReach, "status")
		c.pages(t, 1)
	}

	cut := time.Now().Truncate(time.Second)
	f.ways[0].partition()
	f.Publish(t, "a.test", "1", world.Enforce(week, "mx.a.test"))
	await(t, f.relays[0], "a.test", world.Secure("mx.a.test"))
	down := all[0].await(t, false, 1)
	if down.Shared.Since.Before(cut) || down.Shared.Since.After(time.Now()) || down.Shared.Error == "" {
		t.Errorf("cut off at %v, the status is %+v", cut, down)
	}
	all[0].wants(t, 0, `shared store  redis://127\.0\.0\.1:\d+: out of reach since 20.* UTC \(.+\); 1 domain to be saved in it or removed from it`, "status")
	all[0].wants(t, 0, `              last error: .+`, "status")
	all[0].pages(t, 0)
	for _, c := range all[1:] {
		c.wants(t, 0, inReach, "status")
		c.pages(t, 1)
	}

	f.ways[0].heal()
	if back := all[0].await(t, true, 0); back.Shared.Since.Before(down.Shared.Since) || back.Shared.Error != "" {
		t.Errorf("after a partition that was seen at %v, the status is %+v", down.Shared.Since, back)
	}
	all[0].wants(t, 0, inReach, "status")
	all[0].pages(t, 1)
	f.awaitShared(t, "a.test")
	for _, c := range all {
		for _, secret := range []string{sharedUser, sharedPassword} {
			if shown := c.shown.String() + c.Log.String(); strings.Contains(shown, secret) {
				t.Errorf("%q is shown in\n%s", secret, shown)
			}
		}
		if shown := c.run(t, 0, "config", "show"); strings.Contains(shown, sharedPassword) {
			t.Errorf("the password is shown in\n%s", shown)
		}
	}
}

// The record in the Redis is shown beside the other; if it cannot be read, that
// is said in its place.
func TestOperatorIsShownTheSharedRecord(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	f.learn(t, f.relays[0], "a.test")
	f.everybody(t, "a.test", world.Secure("mx.a.test"))
	all := f.consoles()
	show := []string{"cache", "show", "a.test"}
	const (
		known  = `a\.test: a policy of mode enforce is in force \(from memory\)`
		stored = `store         mode enforce, id 1, fetched 20.*`
		shared = `shared        mode enforce, id "1", fetched 20.*`
	)
	for _, c := range all {
		for _, line := range []string{known, stored, shared} {
			c.wants(t, 0, line, show...)
		}
		c.wants(t, 0, `  "shared": \{`, append(show, "--json")...)
	}

	f.ways[1].partition()
	for _, line := range []string{known, stored, `shared        the record could not be read: .+`} {
		all[1].wants(t, 0, line, show...)
	}
	all[1].await(t, false, 0)
	for _, line := range []string{known, stored, `shared        the record could not be read: the shared store is out of reach: .+`} {
		all[1].wants(t, 0, line, show...)
	}
	all[1].wants(t, 0, `  "shared_error": ".+",?`, append(show, "--json")...)
	all[0].wants(t, 0, shared, show...)

	f.ways[1].heal()
	all[1].await(t, true, 0)
	all[1].wants(t, 0, shared, show...)
}

// What is purged is gone here and in the Redis; where that was out of reach, when
// it is back. Other relays keep what they have.
func TestOperatorPurges(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	all := f.consoles()
	const stillShared = `tlspolicyd: the daemon could not do it: .*: purged here, but not from the shared store, from which it may come back: .+`
	f.learn(t, f.relays[0], "a.test")
	f.learn(t, f.relays[0], "b.test")
	await(t, f.relays[1], "b.test", world.Secure("mx.b.test"))

	all[0].wants(t, 0, `a\.test: forgotten`, "cache", "purge", "a.test")
	all[0].wants(t, 1, `a\.test: nothing is known of it`, "cache", "show", "a.test")
	if f.holds("a.test") {
		t.Error("the Redis holds what was purged")
	}

	f.ways[0].partition()
	all[0].wants(t, 2, stillShared, "cache", "purge", "b.test")
	all[0].wants(t, 1, `b\.test: nothing is known of it`, "cache", "show", "b.test")
	all[0].await(t, false, 1)
	if !f.holds("b.test") {
		t.Error("a relay that is cut off has removed something")
	}
	f.ways[0].heal()
	f.awaitRemoval("b.test")
	all[0].await(t, true, 0)
	all[1].run(t, 0, "cache", "show", "b.test")
}

func TestOperatorPurgesAll(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	all := f.consoles()
	f.learn(t, f.relays[0], "a.test")
	f.learn(t, f.relays[0], "b.test")
	f.learn(t, f.relays[1], "c.test")
	all[0].wants(t, 0, `2 domains forgotten`, "cache", "purge", "--all")
	if out := all[0].run(t, 0, "cache", "list", "--json"); out != "" {
		t.Errorf("after a purge of all, there is\n%s", out)
	}
	if keys := f.redis.Do("KEYS", "tlspolicyd:policy:*"); keys != "" {
		t.Errorf("after a purge of all, the Redis holds %s", keys)
	}
	all[1].run(t, 0, "cache", "show", "c.test")

	f.learn(t, f.relays[0], "d.test")
	f.learn(t, f.relays[1], "e.test")
	f.ways[0].partition()
	all[0].wants(t, 2, `tlspolicyd: .*: purged here, but not from the shared store, .* \(domains purged: 1\)`, "cache", "purge", "--all")
	all[0].run(t, 1, "cache", "show", "d.test")
	f.ways[0].heal()
	f.awaitRemoval("d.test")
	// Of what others saved it knew nothing; that takes another purge.
	all[0].await(t, true, 0)
	if !f.holds("e.test") {
		t.Error("a relay that was cut off has removed what it did not know")
	}
	all[0].wants(t, 0, `0 domains forgotten`, "cache", "purge", "--all")
	if f.holds("e.test") {
		t.Error("the Redis holds what was purged")
	}
}
