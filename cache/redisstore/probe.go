package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	// probeWithin is the most that the probe may take. It has more time than a
	// call, as it makes the connection for those, and asks twice.
	probeWithin = 2 * time.Second
	// markerLife is how long the marker stays when nobody renews it, and
	// markerRenewal how often it is renewed.
	markerLife    = 30 * 24 * time.Hour
	markerRenewal = time.Hour
)

// Run looks after the connection until ctx ends, and returns its error: it finds
// out that the database is in reach again, was restarted, emptied or replaced,
// and listens to what other relays publish. Before it is called, and after it
// has returned, calls work, but every one finds out for itself that the database
// is out of reach.
func (s *Store) Run(ctx context.Context) error {
	s.breaker.probing(true)
	defer s.breaker.probing(false)
	var wg sync.WaitGroup
	wg.Go(func() { s.listen(ctx) })
	everySecond(ctx, s.probe)
	wg.Wait()
	return ctx.Err()
}

// everySecond calls f at once, and then once a second, until ctx ends.
func everySecond(ctx context.Context, f func(context.Context)) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for ctx.Err() == nil {
		f(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// probe looks at the database once.
func (s *Store) probe(ctx context.Context) {
	s.follow(ctx)
	var found identity
	begun := time.Now()
	err := s.try(ctx, probeWithin, func(ctx context.Context) (err error) {
		found, err = s.look(ctx)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	back := s.breaker.probe(begun, err)
	if err != nil {
		s.dialer.doubt()
		return
	}
	s.tellMaster()
	s.breaker.clock(found.ahead)
	// Which nodes of a cluster had lost what, nobody can say.
	if other := s.seen.learn(found); other || back && s.t.cluster {
		s.news.tellBehind()
	}
}

// follow asks the sentinels for the master, and leaves the one that we know if
// it is another, whoever heard of that first: the old one may be alive, on the wrong
// side of a partition.
func (s *Store) follow(ctx context.Context) {
	if s.t.service == "" {
		return
	}
	limited, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	if _, err := s.dialer.findMaster(limited); err != nil {
		s.o.Log.Debug("no sentinel names the master", zap.Error(err))
	}
	if s.dialer.hasMoved() {
		s.renew()
	}
}

// tellMaster logs that another master is in reach than before. Of those that are
// not, sentinels that differ may name one and the other without end.
func (s *Store) tellMaster() {
	if s.t.service == "" {
		return
	}
	before := s.master
	s.master = s.dialer.lastNamed()
	if before != "" && before != s.master {
		s.o.Log.Info("the sentinels name another master", zap.String("master", s.master))
	}
}

// identity is what tells whether this is the database that was there before.
// Empty means "cannot know".
type identity struct {
	contact bool
	servers string // the run ids of all that hold keys
	marker  string // what the marker says
	// ahead is how far the clock of a server is ahead of ours, which does not
	// tell it from another.
	ahead time.Duration
}

// learn notes what was found, and reports whether records may be missing: this
// is the first contact, or the database is not as it was left.
func (i *identity) learn(found identity) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	behind := !i.contact || differ(i.servers, found.servers) || differ(i.marker, found.marker)
	i.contact = true
	i.servers = cmp.Or(found.servers, i.servers)
	i.marker = cmp.Or(found.marker, i.marker)
	return behind
}

// look finds out which database this is. An error means that it is out of reach.
func (s *Store) look(ctx context.Context) (identity, error) {
	db := s.db()
	found, err := askServers(ctx, db)
	if !reached(err) {
		return identity{}, err
	}
	found.marker, err = s.marker(ctx, db)
	if !reached(err) {
		return identity{}, err
	}
	return found, nil
}

// reached reports whether a server answered, be it with an error.
func reached(err error) bool {
	class := classify(err)
	return class != outage && class != nothing
}

// askServers returns what the servers say of themselves: which run this is of
// each, and what time it is.
func askServers(ctx context.Context, db redis.UniversalClient) (identity, error) {
	var mu sync.Mutex
	var all []string
	var found identity
	err := eachNode(ctx, db, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, field(info, "run_id"))
		if ahead := clockAhead(info, time.Now()); ahead.Abs() > found.ahead.Abs() {
			found.ahead = ahead
		}
		return nil
	})
	if err != nil {
		return identity{}, err
	}
	slices.Sort(all)
	found.servers = strings.Join(all, " ")
	return found, nil
}

// field returns a field of what INFO says; empty if it is not there.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, found := strings.CutPrefix(line, name+":"); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// clockAhead returns how far the clock of a server is ahead of ours; 0 if it
// does not say what time it is.
func clockAhead(info string, now time.Time) time.Duration {
	us, err := strconv.ParseInt(field(info, "server_time_usec"), 10, 64)
	if err != nil {
		return 0
	}
	return time.UnixMicro(us).Sub(now)
}

// marker returns what the marker says: a key that goes with all the others when
// somebody empties the database. Where there is none, it makes one, unless
// another relay is faster: then it reads that at the next look. No time of ours
// goes into that: to a server whose clock is ahead by more, it may be past.
func (s *Store) marker(ctx context.Context, db redis.UniversalClient) (string, error) {
	key := s.o.Prefix + "marker"
	text, err := db.GetRange(ctx, key, 0, 63).Result()
	if err != nil {
		return "", err
	}
	if text == "" {
		made := rand.Text()
		if ok, err := db.SetNX(ctx, key, made, markerLife).Result(); err != nil || !ok {
			return "", err
		}
		return made, nil
	}
	if time.Since(s.renewed) > markerRenewal {
		s.renewed = time.Now()
		return text, db.PExpire(ctx, key, markerLife).Err()
	}
	return text, nil
}
