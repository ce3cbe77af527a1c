//go:build e2e

package redisstore

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/redis"
)

// These tests start real servers; test/setup.sh installs them.

// patience is how long something may take that has no limit of its own.
const patience = 20 * time.Second

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// start opens a store that is closed when the test ends, and runs it.
func start(t *testing.T, o Options) *Store {
	t.Helper()
	s := open(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v, want context.Canceled", err)
		}
	})
	return s
}

// open opens a store that nobody looks after.
func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func at(t *testing.T, s *redis.Server) Options {
	return Options{URL: mustURL(t, "redis://"+s.Addr)}
}

// until waits until something is the case.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func isUp(s *Store) func() bool { return func() bool { return s.Status().Up } }
func isDown(s *Store) func() bool {
	return func() bool { return errors.Is(s.breaker.allow(), cache.ErrUnavailable) }
}

func record(t *testing.T, name string) cache.Record {
	t.Helper()
	return storetest.Record(t, name, time.Now())
}

func mustSave(t *testing.T, s *Store, r cache.Record) {
	t.Helper()
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatalf("Save(%s): %v", r.Domain, err)
	}
}

func wantLoad(t *testing.T, s *Store, want cache.Record) {
	t.Helper()
	got, err := s.Load(t.Context(), want.Domain)
	if err != nil || !storetest.Equal(got, want) {
		t.Errorf("Load(%s) = %+v, %v, want %+v", want.Domain, got, err, want)
	}
}

// awaitBehind waits until the store may lack something.
func awaitBehind(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		news, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("not told that the store may lack something: %v", err)
		}
		if news.Behind {
			return
		}
	}
}

// notBehind fails if the store is said to lack something.
func notBehind(t *testing.T, s *Store, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for {
		news, err := s.Next(ctx)
		if err != nil {
			return
		}
		if news.Behind {
			t.Fatal("told that the store may lack something")
		}
	}
}

func watched() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair opens two stores that are patient, as the contract has no limit of time
// and the machine may be busy.
func pair(t *testing.T, o Options) (a, b cache.Shared) {
	o.timeout = patience
	return start(t, o), start(t, o)
}

func TestContract(t *testing.T) {
	for _, kind := range []redis.Kind{redis.Redis, redis.Valkey} {
		t.Run(string(kind), func(t *testing.T) {
			server := redis.Start(t, kind)
			storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
				server.Do("FLUSHALL")
				return pair(t, at(t, server))
			})
		})
	}
}

func TestContractInADatabaseWithAPrefix(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
		server.Do("FLUSHALL")
		server.Do("SET", "tlspolicyd:policy:1:a.example", "of others")
		return pair(t, Options{URL: mustURL(t, "redis://"+server.Addr+"/3"), Prefix: "mail/tls:"})
	})
	if got := server.Do("GET", "tlspolicyd:policy:1:a.example"); got != "of others" {
		t.Errorf("what others keep is %q", got)
	}
}

func TestContractOfACluster(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	storetest.RunShared(t, func(t *testing.T) (a, b cache.Shared) {
		for _, s := range servers {
			s.Do("FLUSHALL")
		}
		return pair(t, Options{URL: mustURL(t, "redis+cluster://"+servers[0].Addr+","+servers[1].Addr)})
	})
}

func TestEveryKeyEndsWithItsPolicy(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	awaitBehind(t, s)
	r := record(t, "a.example")
	mustSave(t, s, r)
	until(t, "two keys", func() bool { return server.Do("DBSIZE") == "2" })
	ends, err := strconv.ParseInt(server.Do("PEXPIRETIME", s.key(r.Domain)), 10, 64)
	if off := time.UnixMilli(ends).Sub(r.Expires).Abs(); err != nil || off > time.Second {
		t.Errorf("the key ends %v off its policy: %v", off, err)
	}
	for _, key := range strings.Fields(server.Do("KEYS", "*")) {
		if server.Do("TTL", key) == "-1" {
			t.Errorf("%s never ends", key)
		}
	}
}

func TestWhatIsOfNoUseIsNotSaved(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := open(t, at(t, server))
	expired := record(t, "a.example")
	expired.Fetched, expired.Expires = time.Now().Add(-time.Hour), time.Now().Add(-time.Second)
	for name, r := range map[string]cache.Record{
		"expired": expired, "no policy": storetest.Failed(t, "a.example", time.Now()), "nothing": {Domain: expired.Domain},
	} {
		mustSave(t, s, r)
		if got := server.Do("DBSIZE"); got != "0" {
			t.Errorf("%s: %s keys", name, got)
		}
	}
}

// A relay whose clock is decades behind takes nothing from the others.
func TestClockThatIsBehind(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	until(t, "in reach", isUp(s))
	week := 7 * 24 * time.Hour
	now := time.Now().Truncate(time.Second)
	newest, stored := record(t, "a.example"), record(t, "a.example")
	newest.ID, newest.Fetched, newest.Expires = "newest", now.Add(-time.Minute), now.Add(week)
	stored.ID, stored.Fetched, stored.Expires = "stored", now.Add(-24*time.Hour), now.Add(week)
	for name, late := range map[string]func() cache.Record{
		"what it had stored": func() cache.Record { return stored },
		"what it fetches": func() cache.Record {
			r := stored
			r.Fetched = time.Now().Truncate(time.Second)
			r.Expires = r.Fetched.Add(week)
			return r
		},
	} {
		mustSave(t, s, newest)
		synctest.Test(t, func(t *testing.T) { // where it is the year 2000
			behind, err := Open(at(t, server))
			if err != nil {
				t.Fatal(err)
			}
			defer behind.Close()
			mustSave(t, behind, late())
		})
		if got, err := s.Load(t.Context(), newest.Domain); err != nil || got.ID != newest.ID {
			t.Errorf("%s: Load = %+v, %v, want the newest", name, got, err)
		}
	}
}

// A relay whose clock is ahead takes nothing away either: nobody would believe
// what it puts in its place.
func TestClockThatIsAhead(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := open(t, at(t, server))
	r, ahead := record(t, "a.example"), record(t, "a.example")
	ahead.ID, ahead.Fetched = "ahead", time.Now().Add(time.Hour).Truncate(time.Second)
	mustSave(t, s, ahead)
	wantLoad(t, s, ahead)
	mustSave(t, s, r)
	mustSave(t, s, ahead)
	wantLoad(t, s, r)
}

// Where the clocks of a relay and of the database are apart, its operator is told.
func TestClocksThatDifferAreTold(t *testing.T) {
	for _, kind := range []redis.Kind{redis.Redis, redis.Valkey} {
		t.Run(string(kind), func(t *testing.T) {
			server := redis.Start(t, kind)
			o := at(t, server)
			log, logs := watched()
			o.Log = log
			synctest.Test(t, func(t *testing.T) { // where it is the year 2000
				behind, err := Open(o)
				if err != nil {
					t.Fatal(err)
				}
				defer behind.Close()
				behind.probe(t.Context())
				behind.probe(t.Context())
				if st := behind.Status(); !st.Up || st.Err == nil || !strings.Contains(st.Err.Error(), "ahead of that of this relay") {
					t.Errorf("Status = %+v", st)
				}
			})
			if server.Do("EXISTS", DefaultPrefix+"marker") != "1" {
				t.Error("a relay whose clock is behind has ended the marker, and every relay saves all it has")
			}
			if all := logs.FilterMessageSnippet("clocks").All(); len(all) != 1 {
				t.Errorf("logged %v", all)
			}
			right := open(t, at(t, server))
			right.probe(t.Context())
			if st := right.Status(); !st.Up || st.Err != nil {
				t.Errorf("with a right clock, Status = %+v", st)
			}
		})
	}
}

// A relay whose clock is behind does not end the marker, though the server does not
// say what time it is.
func TestMarkerOutlivesARelayWhoseClockIsBehind(t *testing.T) {
	for _, kind := range []redis.Kind{redis.Redis, redis.Valkey} {
		t.Run(string(kind), func(t *testing.T) {
			server := redis.Start(t, kind)
			protect(t, server)
			server.Do("ACL", "SETUSER", "tlspolicyd", "-info")
			o := withUser(t, "redis://tlspolicyd@"+server.Addr)
			synctest.Test(t, func(t *testing.T) { // where it is the year 2000
				behind, err := Open(o)
				if err != nil {
					t.Fatal(err)
				}
				defer behind.Close()
				behind.probe(t.Context())
				server.Do("PEXPIRE", DefaultPrefix+"marker", "60000")
				behind.probe(t.Context())
			})
			left, err := strconv.ParseInt(server.Do("PTTL", DefaultPrefix+"marker"), 10, 64)
			if full := markerLife.Milliseconds(); err != nil || left > full || left < full-60_000 {
				t.Errorf("the marker has %d ms left, %v, want %d", left, err, full)
			}
			if out := server.Do("ACL", "LOG"); strings.Contains(out, "set") || strings.Contains(out, "eval") {
				t.Errorf("refused:\n%s", out)
			}
		})
	}
}

// Relays of two versions keep a value each.
func TestAnotherVersionIsLeftAlone(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := open(t, at(t, server))
	const other = "tlspolicyd:policy:2:a.example"
	server.Do("SET", other, "2 of tomorrow")
	r := record(t, "a.example")
	mustSave(t, s, r)
	wantLoad(t, s, r)
	if err := s.Remove(t.Context(), r.Domain); err != nil {
		t.Error(err)
	}
	if n, err := s.RemoveAll(t.Context()); n != 0 || err != nil {
		t.Errorf("RemoveAll = %d, %v", n, err)
	}
	if got := server.Do("GET", other); got != "2 of tomorrow" {
		t.Errorf("the value of another version is %q", got)
	}
}

func domainOf(t *testing.T, name string) policy.Domain { return storetest.Domain(t, name) }
