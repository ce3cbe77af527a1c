//go:build e2e

package fleet_test

import (
	"testing"
	"time"

	"tlspolicyd/test/world"
)

// A Redis that hangs, is full, or cannot be written to costs nobody an answer, and
// is given what it missed.
func TestDatabaseInTrouble(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		begin, end func(f *fleet)
	}{
		{"hangs", func(f *fleet) { f.redis.Stop() }, func(f *fleet) { f.redis.Continue() }},
		{"is full", func(f *fleet) { f.redis.Do("CONFIG", "SET", "maxmemory", "1") },
			func(f *fleet) { f.redis.Do("CONFIG", "SET", "maxmemory", "0") }},
		{"is only read", func(f *fleet) { f.redis.Do("CONFIG", "SET", "min-replicas-to-write", "1") },
			func(f *fleet) { f.redis.Do("CONFIG", "SET", "min-replicas-to-write", "0") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, world.Options{})
			f.Publish(t, "a.test", "1", world.Enforce(week, "mx1.a.test"))
			f.everybody(t, "a.test", world.Secure("mx1.a.test"))
			f.awaitShared(t, "a.test")
			tt.begin(f)
			f.everybody(t, "a.test", world.Secure("mx1.a.test"))
			f.Publish(t, "b.test", "1", world.Enforce(week, "mx.b.test"))
			asked := time.Now()
			f.everybody(t, "b.test", world.Secure("mx.b.test"))
			if took := time.Since(asked); took > 5*time.Second {
				t.Errorf("three first questions took %v", took)
			}
			f.Publish(t, "a.test", "2", world.Enforce(week, "mx2.a.test"))
			for _, d := range f.relays {
				await(t, d, "a.test", world.Secure("mx2.a.test"))
			}
			tt.end(f)
			f.awaitShared(t, "b.test")
		})
	}
}

// A policy that changes on one side of a partition is in force on both after it.
func TestChangeDuringAPartition(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{Recheck: 3 * time.Second})
	f.Publish(t, "a.test", "1", world.Enforce(week, "mx1.a.test"))
	f.everybody(t, "a.test", world.Secure("mx1.a.test"))
	f.ways[2].partition()
	f.Publish(t, "a.test", "2", world.Enforce(week, "mx2.a.test"))
	await(t, f.relays[0], "a.test", world.Secure("mx2.a.test"))
	// From here on, nobody who has not fetched it can see that there is a new one,
	// but the policy host still has it.
	f.TXT(t, "a.test", world.Record("1"))
	f.ways[2].heal()
	await(t, f.relays[2], "a.test", world.Secure("mx2.a.test"))
	await(t, f.relays[1], "a.test", world.Secure("mx2.a.test"))
}
