//go:build e2e

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/test/redis"
)

func flat(fields map[string]any) string { return fmt.Sprint(fields) }

// sentinelURL names all the sentinels.
func sentinelURL(sentinels []*redis.Server) string {
	return "redis+sentinel://" + hosts(sentinels) + "/mymaster"
}

// clusterURL names all the nodes of a cluster.
func clusterURL(nodes []*redis.Server) string { return "redis+cluster://" + hosts(nodes) }

// hosts lists servers as a URL does.
func hosts(servers []*redis.Server) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Addr)
	}
	return strings.Join(all, ",")
}

// two starts two stores of one database, which have been in touch with it.
func two(t *testing.T, address string) (a, b *Store) {
	t.Helper()
	o := Options{URL: mustURL(t, address)}
	a, b = start(t, o), start(t, o)
	awaitBehind(t, a)
	awaitBehind(t, b)
	return a, b
}

func TestFailover(t *testing.T) {
	t.Parallel()
	master := redis.Start(t, redis.Redis)
	redis.StartReplica(t, master)
	sentinels := redis.StartSentinels(t, master)
	a, b := two(t, sentinelURL(sentinels))
	r := record(t, "a.example")
	mustSave(t, a, r)
	wantLoad(t, b, r)
	awaitTold(t, a, b)
	sentinels[0].Kill() // one of them may be lost too
	master.Kill()
	begun := time.Now()
	awaitBehind(t, a)
	awaitBehind(t, b)
	t.Logf("another master after %s", time.Since(begun))
	mustSave(t, b, record(t, "b.example"))
	wantLoad(t, a, record(t, "b.example"))
	awaitTold(t, a, b)
}

// A master that hangs, and comes back after another has taken its place.
func TestFailoverOfAMasterThatHangs(t *testing.T) {
	t.Parallel()
	master := redis.Start(t, redis.Redis)
	replica := redis.StartReplica(t, master)
	sentinels := redis.StartSentinels(t, master)
	a, b := two(t, sentinelURL(sentinels))
	master.Stop()
	named := func(s *Store) bool {
		addr, err := s.dialer.masterAddr(t.Context())
		return err == nil && addr == replica.Addr
	}
	until(t, "another master", func() bool { return named(a) && named(b) })
	until(t, "in reach", isUp(a))
	until(t, "in reach", isUp(b))
	master.Continue()
	mustSave(t, a, record(t, "b.example"))
	wantLoad(t, b, record(t, "b.example"))
	awaitTold(t, a, b)
	for range 10 {
		mustSave(t, a, record(t, "c.example"))
		time.Sleep(50 * time.Millisecond)
	}
}

// A sentinel that is cut off from the others, and still names a master that has
// gone, hangs, or is none any more, is not the only one that is asked.
func TestSentinelThatIsBehind(t *testing.T) {
	for name, end := range map[string]func(old, master *redis.Server){
		"gone":    func(old, _ *redis.Server) { old.Kill() },
		"hangs":   func(old, _ *redis.Server) { old.Stop() },
		"follows": func(old, master *redis.Server) { old.Do("REPLICAOF", "127.0.0.1", master.Port()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, master := redis.Start(t, redis.Redis), redis.Start(t, redis.Redis)
			behind := redis.New(t, redis.Redis)
			redis.StartSentinel(t, behind, fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %s 2\n",
				behind.Port(), old.Port()))
			sentinels := redis.StartSentinels(t, master)
			end(old, master)
			s := start(t, Options{URL: mustURL(t, sentinelURL(append([]*redis.Server{behind}, sentinels...)))})
			until(t, "in reach", isUp(s))
			r := record(t, "a.example")
			until(t, "a save", func() bool { return s.Save(t.Context(), r) == nil })
			wantLoad(t, s, r)
		})
	}
}

// A call may be the first to hear of another master: the connections to the old one,
// which is alive, are left all the same, and that is told.
func TestOldMasterIsLeftThoughACallHeardOfTheNewOne(t *testing.T) {
	t.Parallel()
	old, master := redis.Start(t, redis.Redis), redis.Start(t, redis.Redis)
	behind := redis.New(t, redis.Redis)
	redis.StartSentinel(t, behind, fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %s 2\n",
		behind.Port(), old.Port()))
	sentinels := redis.StartSentinels(t, master)
	log, logs := watched()
	s := open(t, Options{URL: mustURL(t, sentinelURL([]*redis.Server{behind, sentinels[0]})), Log: log})
	s.probe(t.Context())
	old.Do("REPLICAOF", "127.0.0.1", master.Port())
	until(t, "a save", func() bool { return s.Save(t.Context(), record(t, "a.example")) == nil })
	client := s.db()
	s.probe(t.Context())
	if s.db() == client {
		t.Error("connections to the old master may still be in use")
	}
	s.probe(t.Context())
	wantMessages(t, logs.FilterMessageSnippet("sentinels").All(), "the sentinels name another master")
}

// Sentinels that differ about masters none of which is in reach do not fill the log.
func TestSentinelsThatDifferDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	var sentinels []*redis.Server
	for range 2 {
		nobody, s := redis.New(t, redis.Redis), redis.New(t, redis.Redis)
		redis.StartSentinel(t, s, fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 %s 2\n", s.Port(), nobody.Port()))
		sentinels = append(sentinels, s)
	}
	log, logs := watched()
	s := open(t, Options{URL: mustURL(t, sentinelURL(sentinels)), Log: log})
	asked := map[string]bool{}
	for range 10 {
		s.probe(t.Context())
		asked[s.dialer.lastNamed()] = true
	}
	if len(asked) != 2 {
		t.Errorf("masters that were tried: %v, want both", asked)
	}
	wantMessages(t, logs.All())
}

func TestSentinelsThatAskWhoAsks(t *testing.T) {
	t.Parallel()
	master := redis.Start(t, redis.Redis, "--requirepass", secret, "--masterauth", secret)
	master.CLI = []string{"--pass", secret, "--no-auth-warning"}
	sentinels := redis.StartSentinels(t, master, fmt.Sprintf("sentinel auth-pass mymaster %q", secret), fmt.Sprintf("requirepass %q", secret))
	o := withUser(t, sentinelURL(sentinels))
	s := start(t, o)
	until(t, "in reach", isUp(s))
	mustSave(t, s, record(t, "a.example"))
	o.PasswordFile = ""
	if _, err := open(t, o).Load(t.Context(), domainOf(t, "a.example")); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("Load without a password: %v", err)
	}
}

func TestUnknownService(t *testing.T) {
	t.Parallel()
	master := redis.Start(t, redis.Redis)
	sentinels := redis.StartSentinels(t, master)
	s := open(t, Options{URL: mustURL(t, strings.Replace(sentinelURL(sentinels), "mymaster", "other", 1))})
	_, err := s.Load(t.Context(), domainOf(t, "a.example"))
	wantUnknown(t, err)
	if err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("Load: %v", err)
	}
}

func TestSentinelsOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	master := startTLS(t, ca, "127.0.0.1", "--tls-auth-clients", "no")
	cert, key := ca.sign(t, "127.0.0.1")
	sentinel := redis.New(t, redis.Redis)
	sentinel.CLI = master.CLI
	redis.StartSentinel(t, sentinel, fmt.Sprintf("port 0\ntls-port %s\ntls-replication yes\ntls-auth-clients no\n"+
		"tls-cert-file %s\ntls-key-file %s\ntls-ca-cert-file %s\nsentinel monitor mymaster 127.0.0.1 %s 1",
		sentinel.Port(), cert, key, ca.file, master.Port()))
	s := start(t, Options{URL: mustURL(t, "rediss+sentinel://"+sentinel.Addr+"/mymaster"), CAFile: ca.file})
	until(t, "in reach", isUp(s))
	mustSave(t, s, record(t, "a.example"))
	wantLoad(t, s, record(t, "a.example"))
}

func TestClusterByTheWrongScheme(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	var failed error
	for _, server := range servers {
		s := open(t, at(t, server))
		if _, err := s.Load(t.Context(), domainOf(t, "a.example")); !errors.Is(err, cache.ErrNotFound) {
			failed = err
		}
	}
	wantUnknown(t, failed)
	if failed == nil || !strings.Contains(failed.Error(), "redis+cluster://") {
		t.Errorf("Load: %v", failed)
	}
}

func TestMasterOfAClusterIsKilled(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	a, b := two(t, clusterURL(servers))
	var all []cache.Record
	for i := range 30 {
		r := record(t, fmt.Sprintf("d%d.example", i))
		mustSave(t, a, r)
		all = append(all, r)
	}
	// Policies lie on every node, and news come from every node.
	for _, r := range all {
		wantLoad(t, b, r)
	}
	for _, s := range servers {
		if s.Do("DBSIZE") == "0" {
			t.Errorf("nothing on %s", s.Addr)
		}
	}
	servers[0].Kill() // the first seed
	until(t, "out of reach", isDown(a))
	servers[0].Start()
	until(t, "in reach", isUp(a))
	until(t, "in reach", isUp(b))
	awaitBehind(t, a)
	awaitBehind(t, b)
	for _, r := range all {
		until(t, "saved again", func() bool { return a.Save(t.Context(), r) == nil })
		until(t, "loaded", func() bool { _, err := b.Load(t.Context(), r.Domain); return err == nil })
	}
	awaitTold(t, a, b)
	if n, err := b.RemoveAll(t.Context()); n != len(all)+1 || err != nil {
		t.Errorf("RemoveAll = %d, %v, want %d", n, err, len(all)+1)
	}
}

// A node that takes connections and says nothing is not asked for ever.
func TestNewsPastANodeThatHangs(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Redis)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := start(t, at(t, server))
	b := open(t, Options{URL: mustURL(t, "redis+cluster://"+l.Addr().String()+","+server.Addr)})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { b.listen(ctx) })
	for ctx.Err() == nil {
		publish(t, a, "1 stranger a.example")
		select {
		case <-b.news.changed:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Errorf("no news within %s, though the second node is well", patience)
}

// The node on which the channel would lie hangs; news still come by another.
func TestNewsInAClusterOfWhichANodeHangs(t *testing.T) {
	t.Parallel()
	servers := redis.StartCluster(t)
	s := start(t, Options{URL: mustURL(t, clusterURL(servers))})
	awaitBehind(t, s)
	until(t, "the subscription", func() bool { return told(t, s, servers) })
	db, ok := s.db().(*goredis.ClusterClient)
	if !ok {
		t.Fatal("no client for a cluster")
	}
	node, err := db.MasterForKey(t.Context(), s.channel())
	if err != nil {
		t.Fatal(err)
	}
	var others []*redis.Server
	for _, server := range servers {
		if server.Addr != node.Options().Addr {
			others = append(others, server)
			continue
		}
		server.Stop()
		defer server.Continue()
	}
	until(t, "news by another node", func() bool { return told(t, s, others) })
}

// told publishes at each server, and reports whether s is told by any.
func told(t *testing.T, s *Store, servers []*redis.Server) bool {
	t.Helper()
	for _, server := range servers {
		server.Do("PUBLISH", s.channel(), "1 stranger a.example")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for {
		news, err := s.Next(ctx)
		if err != nil || news.Changed != (policy.Domain{}) {
			return err == nil
		}
	}
}

// A replica takes the place of a master of a cluster.
func TestFailoverInACluster(t *testing.T) {
	t.Parallel()
	servers := redis.StartClusterWithReplicas(t)
	a, b := two(t, clusterURL(servers))
	awaitTold(t, a, b)
	servers[0].Kill() // a master; it does not come back
	for i := range 30 {
		r := record(t, fmt.Sprintf("d%d.example", i))
		until(t, "saved", func() bool { return a.Save(t.Context(), r) == nil })
		until(t, "loaded", func() bool { _, err := b.Load(t.Context(), r.Domain); return err == nil })
	}
	until(t, "in reach", isUp(a))
	until(t, "in reach", isUp(b))
	awaitTold(t, a, b)
}
