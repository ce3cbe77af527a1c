package check

import (
	"context"
	"fmt"
	"slices"

	"tlspolicyd/resolver/policy"
)

// Daemon shows what a running daemon knows of a domain.
type Daemon interface {
	View(ctx context.Context, domain policy.Domain) (DaemonView, error)
}

// DaemonView is what a daemon knows of a domain.
type DaemonView struct {
	// STS is the fact in the memory or the store of the daemon; its zero
	// value means that the daemon does not know the domain.
	STS policy.STS
	// Lines is the view in the daemon's own words.
	Lines []string
	// Listen are the addresses on which it listens, as the configuration writes
	// them; empty if it did not say.
	Listen []string
	// Err says why there is no view; the rest is empty then.
	Err error
}

// daemon asks the daemon, if there is one to ask.
func (c *Checker) daemon(ctx context.Context, r *Report) {
	if c.o.Daemon == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	view, err := c.o.Daemon.View(ctx, r.Hop.Domain)
	if err != nil {
		view = DaemonView{Err: err}
	}
	r.Daemon = &view
}

// recall puts what the daemon knows in the place of what the network gives, where
// the network gives no policy: one that the daemon enforces, or that it cannot say
// what it knew. Until its max_age is over, no failure and no absence ends a policy
// (RFC 8461, section 3.3).
func (r *Report) recall() {
	if r.Daemon == nil || r.STS.Policy != nil || !r.Daemon.STS.Enforces(r.Asked) && !r.Daemon.STS.Lost {
		return
	}
	known := *r
	known.STS = r.Daemon.STS
	known.Hosts = slices.Clone(r.Hosts)
	known.list()
	known.answer()
	r.Recalled = &known
}

// disagreement says in which way the daemon goes by something else than what
// the network gives.
func (r *Report) disagreement() []string {
	if r.Daemon == nil || r.Daemon.Err != nil || r.Recalled != nil {
		return nil
	}
	theirs := &r.Daemon.STS
	again := fmt.Sprintf("; it looks at the next mail, or now with: tlspolicyd cache refresh %s", r.Hop.Domain)
	switch {
	case r.STS.Enforces(r.Asked) && !theirs.Enforces(r.Asked):
		return []string{"the daemon does not enforce this policy yet" + again}
	case theirs.Enforces(r.Asked) && r.STS.Policy != nil && theirs.Policy.Text != r.STS.Policy.Text:
		return []string{fmt.Sprintf("the daemon still enforces another policy (id %s, until %s)%s", theirs.ID, stamp(theirs.Expires()), again)}
	default:
		return nil
	}
}
