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
			c.log.Info("what is in force here is saved in the shared store, which may lack it")
			c.outbox.addAll()
		default:
			c.heed(news.Changed)
			pause(ctx, newsPace)
		}
	}
}

// heed begins the flight that follows the news of a domain, after the one that
// may have looked too early.
func (c *Cache) heed(domain policy.Domain) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.news.tryAcquire() {
		return
	}
	c.launch(domain, goalHeed, time.Now())
}

// followNews is the flight that looks what another relay has to tell of a domain.
// One of which nothing is known here can wait until somebody asks.
func (c *Cache) followNews(f *flight) {
	mine := c.recall(f)
	if f.ctx.Err() != nil {
		return
	}
	c.show(f, &mine)
	if mine.Policy == nil && !c.inUseNow(f.domain) {
		return
	}
	mine, f.hinted = c.takeOver(f, mine)
	if !f.hinted {
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

// inUseNow reports whether memory knows a domain.
func (c *Cache) inUseNow(domain policy.Domain) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.memory.peek(domain)
	return e != nil && e.known
}
