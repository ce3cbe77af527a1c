package redisstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

const (
	// maxNews is how many news wait to be asked for; the rest is dropped.
	maxNews = 10_000
	// maxMessage is the longest message that is looked at: a domain has 253
	// bytes at most.
	maxMessage = 300
	// maxSilent is for how many seconds a server may be silent that is asked in
	// each whether it is still there.
	maxSilent = 3
)

// news waits to be asked for.
type news struct {
	changed chan policy.Domain
	behind  chan struct{}
}

func newNews() news {
	return news{make(chan policy.Domain, maxNews), make(chan struct{}, 1)}
}

// tellBehind says that the database may lack records. Saying it twice before
// anybody asks is saying it once.
func (n *news) tellBehind() {
	select {
	case n.behind <- struct{}{}:
	default:
	}
}

// tellChanged names a domain, and reports whether there was room.
func (n *news) tellChanged(domain policy.Domain) bool {
	select {
	case n.changed <- domain:
		return true
	default:
		return false
	}
}

// Next implements cache.Shared. There are no news unless Run is running.
func (s *Store) Next(ctx context.Context) (cache.News, error) {
	select {
	case <-ctx.Done():
		return cache.News{}, ctx.Err()
	case <-s.news.behind:
		return cache.News{Behind: true}, nil
	case domain := <-s.news.changed:
		return cache.News{Changed: domain}, nil
	}
}

// A message is the version of its form, who sent it, and the domain.
const messageVersion = "1"

func message(sender string, domain policy.Domain) string {
	return strings.Join([]string{messageVersion, sender, domain.String()}, " ")
}

var errMessage = errors.New("no message of this program")

// parseMessage reads what message wrote.
func parseMessage(text string) (sender string, domain policy.Domain, err error) {
	part := strings.Split(text, " ")
	if len(text) > maxMessage || len(part) != 3 || part[0] != messageVersion || part[1] == "" {
		return "", policy.Domain{}, errMessage
	}
	domain, err = policy.ParseDomain(part[2])
	if err != nil || domain.String() != part[2] {
		return "", policy.Domain{}, errMessage
	}
	return part[1], domain, nil
}

// listen keeps a subscription until ctx ends.
func (s *Store) listen(ctx context.Context) {
	everySecond(ctx, func(ctx context.Context) {
		err := s.subscribe(ctx)
		if ctx.Err() != nil {
			return
		}
		s.breaker.note(opSubscribe, err)
		s.o.Log.Debug("the subscription to the shared store has ended", zap.Error(err))
	})
}

// subscribe connects, and hears what is published until that ends: with ctx,
// with the client, when another takes its place, or with a server that says
// nothing. The library's channels are not used, as they panic where nobody can
// recover if a server answers what none does.
func (s *Store) subscribe(ctx context.Context) error {
	sub := s.db().Subscribe(ctx) // to nothing, which asks nobody yet
	defer sub.Close()
	stop := context.AfterFunc(ctx, func() { sub.Close() })
	defer stop()
	return s.explained(safely(func() error {
		// In a cluster a PING goes to any node. SUBSCRIBE would always go to the
		// same one, and that may be the one that hangs.
		if err := sub.Ping(ctx); err != nil {
			return err
		}
		if err := sub.Subscribe(ctx, s.channel()); err != nil {
			return err
		}
		return s.hear(ctx, sub)
	}))
}

// hear reads what is published. A server that is silent is asked whether it is
// still there; before the first answer, silence is taken for "no".
func (s *Store) hear(ctx context.Context, sub *redis.PubSub) error {
	for silent := maxSilent - 1; ; {
		m, err := sub.ReceiveTimeout(ctx, time.Second)
		var slow net.Error
		switch {
		case err == nil:
			silent = 0
		case !errors.As(err, &slow) || !slow.Timeout():
			return err
		default:
			if silent++; silent == maxSilent {
				return err
			}
			if err := sub.Ping(ctx); err != nil {
				return err
			}
		}
		switch m := m.(type) {
		case *redis.Subscription:
			s.breaker.note(opSubscribe, nil)
		case *redis.Message:
			s.heard(m.Payload)
		}
	}
}

// heard passes a message on, unless it is our own, or none.
func (s *Store) heard(text string) {
	sender, domain, err := parseMessage(text)
	switch {
	case err != nil:
		s.o.Log.Debug("something else than a message was published", zap.Int("bytes", len(text)))
	case sender == s.id:
	case !s.news.tellChanged(domain):
		s.o.Log.Debug("too many news", zap.Stringer("dropped", domain))
	}
}
