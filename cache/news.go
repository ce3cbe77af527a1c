package cache

import (
	"context"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/resolver/policy"
)

const (
	// maxNews is how much news is followed at a time. More is let go: the next
	// recheck of a domain sees the same.
	maxNews = 64
	// newsWait is how long a piece of news waits for its turn.
	newsWait = time.Second
	// newsPace is the time between two pieces of news, so that who can write
	// them cannot keep this relay busy with them.
	newsPace = time.Millisecond
)

// hear follows the news of the shared store until ctx ends.
func (c *Cache) hear(ctx context.Context) {
	for {
		news, err := c.shared.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.sharedFailed(opNews, err)
			pause(ctx, retryShared)
		case news.Behind:
			c.shareAll()
		default:
			c.heed(news.Changed)
			pause(ctx, newsPace)
		}
	}
}

// shareAll has all that is stored saved in the shared store.
func (c *Cache) shareAll() {
	if c.limiter.allow(time.Now(), "catch up") {
		c.log.Info("what is in force here is saved in the shared store, which may lack it")
	}
	c.outbox.addAll()
}

// heed follows the news of a domain: by a flight, after the one that may have
// looked too early.
func (c *Cache) heed(domain policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	f := c.flights[domain]
	unheard := f != nil && f.goal == goalHeed && !f.heard
	if c.closed || unheard || f == nil && c.askAgain(domain, now) {
		return
	}
	c.launch(domain, goalHeed, now)
}

// askAgain has what is an absence here looked at when somebody asks, and not
// before: else whoever writes news could fill the store with domains that nobody
// needs. It reports whether that is all there is to do. c.mu is held.
func (c *Cache) askAgain(domain policy.Domain, now time.Time) bool {
	e := c.memory.peek(domain)
	if e == nil || !e.known || e.sts.InForce(now) {
		return false
	}
	e.askStoreAt(now)
	c.memory.put(now, domain, e)
	return true
}

// followNews is the flight that looks what another relay has to tell of a domain
// whose policy is in force here.
func (c *Cache) followNews(f *flight) {
	mine, hinted := c.hearNews(f)
	if !hinted {
		return
	}
	next, ok := c.lookNow(f, mine)
	if !ok {
		return
	}
	c.log.Debug("another relay knows another policy; it is fetched here too", zap.Stringer("domain", f.domain))
	c.show(f, &next)
	c.fetch(f, &next)
}

// hearNews asks the shared store, and returns what is known here, and whether the
// policy is to be fetched. The place among those who ask is free after it, however long a
// policy host takes.
func (c *Cache) hearNews(f *flight) (mine policy.STS, hinted bool) {
	now := time.Now()
	if !c.news.acquire(f.ctx, now.Add(newsWait)) {
		return policy.STS{}, false
	}
	defer c.news.release()
	mine = c.recall(f)
	if f.ctx.Err() != nil {
		return mine, false
	}
	inForce := mine.InForce(now)
	c.mu.Lock()
	f.heard = true
	c.showLocked(f, &mine)
	if !inForce {
		c.askAgain(f.domain, now)
	}
	c.mu.Unlock()
	if !inForce {
		return mine, false
	}
	mine, f.hinted = c.takeOver(f, mine)
	return mine, f.hinted
}
