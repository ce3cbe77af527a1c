//go:build e2e

package fleet_test

import (
	"testing"
	"time"

	"tlspolicyd/test/redis"
	"tlspolicyd/test/world"
)

func TestWhatOneLearnedAllAnswer(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	f.Publish(t, "a.test", "1", world.Enforce(week, "mx.a.test"))
	if got := f.relays[0].Ask(t, "a.test"); got != world.Secure("mx.a.test") {
		t.Fatalf("the first answers %q", got)
	}
	f.awaitShared(t, "a.test")
	f.die("a.test")
	f.everybody(t, "a.test", world.Secure("mx.a.test"))
	if n := f.Hosts.Fetches("a.test"); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	// It is durable on each of them: without the Redis, after a crash.
	f.redis.Kill()
	for i, d := range f.relays {
		d.Kill(t)
		again := f.Start(t, world.Options{Program: world.Build(t), State: d.State, Shared: "redis://" + f.ways[i].addr})
		if got := again.Ask(t, "a.test"); got != world.Secure("mx.a.test") {
			t.Errorf("relay %d answers %q after a crash", i, got)
		}
	}
}

// A new id that one has seen is in force on all within two seconds of its fetch.
func TestChangeIsInForceOnAll(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	f.Publish(t, "a.test", "1", world.Enforce(week, "mx1.a.test"))
	f.everybody(t, "a.test", world.Secure("mx1.a.test"))
	time.Sleep(2 * recheck)
	f.Publish(t, "a.test", "2", world.Enforce(week, "mx2.a.test"))
	await(t, f.relays[0], "a.test", world.Secure("mx2.a.test"))
	changed := time.Now()
	// The others were not asked meanwhile, so they have not looked themselves.
	time.Sleep(2*time.Second - time.Since(changed))
	f.everybody(t, "a.test", world.Secure("mx2.a.test"))
}

func TestPartitionAndHeal(t *testing.T) {
	t.Parallel()
	f := start(t, world.Options{})
	f.Publish(t, "a.test", "1", world.Enforce(week, "mx1.a.test"))
	f.everybody(t, "a.test", world.Secure("mx1.a.test"))

	f.ways[2].partition()
	f.Publish(t, "b.test", "1", world.Enforce(week, "mx.b.test"))
	f.Publish(t, "c.test", "1", world.Enforce(week, "mx.c.test"))
	await(t, f.relays[0], "b.test", world.Secure("mx.b.test"))
	await(t, f.relays[2], "c.test", world.Secure("mx.c.test"))
	f.awaitShared(t, "b.test")
	f.everybody(t, "a.test", world.Secure("mx1.a.test"))
	if out := f.redis.Do("EXISTS", "tlspolicyd:policy:1:c.test"); out != "0" {
		t.Fatal("a relay that is cut off has saved something")
	}

	f.ways[2].heal()
	f.awaitShared(t, "c.test")
	f.die("b.test", "c.test")
	for _, d := range f.relays {
		await(t, d, "b.test", world.Secure("mx.b.test"))
		await(t, d, "c.test", world.Secure("mx.c.test"))
	}
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	master := redis.Start(t, redis.Redis)
	replica := redis.StartReplica(t, master)
	sentinels := redis.StartSentinels(t, master)
	url := "redis+sentinel://" + sentinels[0].Addr + "," + sentinels[1].Addr + "," + sentinels[2].Addr + "/mymaster"
	a, b := pair(t, w, url)
	w.Publish(t, "a.test", "1", world.Enforce(week, "mx.a.test"))
	await(t, a, "a.test", world.Secure("mx.a.test"))
	exists(t, replica, "a.test")

	master.Kill()
	w.Publish(t, "b.test", "1", world.Enforce(week, "mx.b.test"))
	if got := a.Ask(t, "b.test"); got != world.Secure("mx.b.test") {
		t.Errorf("without a master: %q", got)
	}
	exists(t, replica, "b.test")
	w.Die()
	await(t, b, "a.test", world.Secure("mx.a.test"))
	await(t, b, "b.test", world.Secure("mx.b.test"))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	w := world.New(t)
	nodes := redis.StartCluster(t)
	a, b := pair(t, w, "redis+cluster://"+nodes[0].Addr+","+nodes[1].Addr)
	domains := []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test"}
	for _, d := range domains {
		w.Publish(t, d, "1", world.Enforce(week, "mx."+d))
		await(t, a, d, world.Secure("mx."+d))
	}
	time.Sleep(recheck)
	w.Publish(t, "a.test", "2", world.Enforce(week, "mx2.a.test"))
	await(t, a, "a.test", world.Secure("mx2.a.test"))
	time.Sleep(recheck)
	w.Die()
	await(t, b, "a.test", world.Secure("mx2.a.test"))
	for _, d := range domains[1:] {
		await(t, b, d, world.Secure("mx."+d))
	}
}

// pair starts two relays that share what is at a URL.
func pair(t *testing.T, w *world.World, url string) (a, b *world.Daemon) {
	t.Helper()
	o := world.Options{Program: world.Build(t), Shared: url, Recheck: recheck}
	a, b = w.Start(t, o), w.Start(t, o)
	a.WaitLog(t, soon, "may lack it")
	b.WaitLog(t, soon, "may lack it")
	return a, b
}

// exists waits until a server holds a policy.
func exists(t *testing.T, s *redis.Server, domain string) {
	t.Helper()
	s.Await("record of "+domain, func() bool {
		out, err := s.Try("EXISTS", "tlspolicyd:policy:1:"+domain)
		return err == nil && out == "1"
	})
}
