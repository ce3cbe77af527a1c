//go:build e2e

package fleet_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/redisstore"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/world"
)

// What a stranger writes into the Redis changes no answer about a domain whose
// policy is in force, and hides none that could be found out.
func TestForgedRecords(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	stranger := f.stranger(t)
	const domain = "a.test"
	const mine = "mx.a.test"
	f.Publish(t, domain, "1", world.Enforce(week, mine))
	f.everybody(t, domain, world.Secure(mine))
	f.awaitShared(t, domain)
	day := 24 * time.Hour
	for _, forged := range []cache.Record{
		record(t, domain, "1", world.None(week), time.Now()),
		record(t, domain, "2", world.Testing(week, mine), time.Now().Add(time.Minute)),
		record(t, domain, "1", world.Enforce(week, "mx.evil.test"), time.Now().Add(2*time.Minute)),
		record(t, domain, "1", world.Enforce(0, mine), time.Now().Add(3*time.Minute)),
		record(t, domain, "3", "garbage", time.Now().Add(4*time.Minute)),
		record(t, domain, "1", world.None(week), time.Now().Add(day)),
	} {
		if err := stranger.Save(t.Context(), forged); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(recheck / 2)
			f.everybody(t, domain, world.Secure(mine))
		}
	}
	key := "tlspolicyd:policy:1:" + domain
	whole := f.redis.Do("GET", "tlspolicyd:policy:1:"+domain)
	f.Publish(t, "b.test", "1", world.Enforce(week, "mx.b.test"))
	for _, write := range [][]string{
		{"SET", key, "garbage"},
		{"SET", key, "9 1 00\n\x09whatever"},
		{"SET", key, strings.Repeat("x", 100_000)},
		{"SET", "tlspolicyd:policy:1:b.test", whole}, // of another domain
		{"DEL", key},
		{"HSET", key, "a", "b"},
		{"PUBLISH", "tlspolicyd:changed", "garbage"},
		{"PUBLISH", "tlspolicyd:changed", "x " + domain},
	} {
		f.redis.Do(write...)
		time.Sleep(recheck)
		f.everybody(t, domain, world.Secure(mine))
	}
	f.everybody(t, "b.test", world.Secure("mx.b.test"))
}

// A policy that does not enforce keeps nobody from looking for one that does.
func TestForgedAbsence(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	stranger := f.stranger(t)
	for domain, text := range map[string]string{"none.test": world.None(week), "testing.test": world.Testing(week, "mx.evil.test")} {
		f.Publish(t, domain, "1", world.Enforce(week, "mx."+domain))
		if err := stranger.Save(t.Context(), record(t, domain, "1", text, time.Now())); err != nil {
			t.Fatal(err)
		}
		f.everybody(t, domain, world.Secure("mx."+domain))
	}
}

// stranger is somebody who has the password of the Redis.
func (f *fleet) stranger(t *testing.T) *redisstore.Store {
	t.Helper()
	u, err := url.Parse("redis://" + f.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := redisstore.Open(redisstore.Options{URL: u})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func record(t *testing.T, domain, id, text string, fetched time.Time) cache.Record {
	t.Helper()
	d, err := policy.ParseDomain(domain)
	if err != nil {
		t.Fatal(err)
	}
	return cache.Record{Domain: d, ID: id, Text: text, Fetched: fetched, Expires: fetched.Add(week * time.Second)}
}

// Who writes again and again that the policy in force was just fetched does not
// keep a relay from following a new id.
func TestForgedConfirmations(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	stranger := f.stranger(t)
	const domain = "a.test"
	old := world.Enforce(week, "mx1.a.test")
	f.Publish(t, domain, "1", old)
	f.everybody(t, domain, world.Secure("mx1.a.test"))
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	defer writing.Wait()
	defer cancel()
	writing.Go(func() {
		for ctx.Err() == nil {
			r := record(t, domain, "1", old, time.Now().Add(4*time.Minute))
			if err := stranger.Save(ctx, r); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			time.Sleep(recheck / 10)
		}
	})
	time.Sleep(3 * recheck)
	f.everybody(t, domain, world.Secure("mx1.a.test"))
	f.Publish(t, domain, "2", world.Enforce(week, "mx2.a.test"))
	for _, d := range f.relays {
		await(t, d, domain, world.Secure("mx2.a.test"))
	}
}
