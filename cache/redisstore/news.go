package redisstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

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
	// pongWithin is how long a server may be silent that is asked each second
	// whether it is still there.
	pongWithin = 3 * time.Second
	// connectWithin is the most that a subscription may take.
	connectWithin = 2 * time.Second
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

// subscribe connects, and hears what is published until that ends.
func (s *Store) subscribe(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, connectWithin)
	w, addr, err := s.dialer.open(limited)
	cancel()
	if err != nil {
		return err
	}
	ctx, cancel = context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		w.Close() // which ends hear
	})
	if err := w.SetDeadline(time.Time{}); err != nil {
		return err
	}
	if err := w.send("SUBSCRIBE", s.channel()); err != nil {
		return err
	}
	wg.Go(func() { s.ping(ctx, cancel, w, addr) })
	return s.hear(w)
}

// ping makes a server that is alive say something, and leaves one that is no
// longer the master.
func (s *Store) ping(ctx context.Context, leave func(), w *wire, addr string) {
	everySecond(ctx, func(context.Context) {
		err := w.SetWriteDeadline(time.Now().Add(time.Second))
		if err == nil {
			err = w.send("PING")
		}
		if err != nil || s.t.service != "" && s.dialer.current() != addr {
			leave()
		}
	})
}

// hear reads what is published.
func (s *Store) hear(w *wire) error {
	for {
		if err := w.SetReadDeadline(time.Now().Add(pongWithin)); err != nil {
			return err
		}
		r, err := w.read()
		if err != nil {
			return err
		}
		if len(r.items) != 3 {
			continue
		}
		switch r.items[0].text {
		case "subscribe":
			s.breaker.note(opSubscribe, nil)
		case "message":
			s.heard(r.items[2].text)
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
