package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/check"
	"tlspolicyd/internal/config"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// daemonView shows what a running daemon knows, through its admin socket.
type daemonView struct{ config *config.Config }

// View asks the daemon.
func (d daemonView) View(ctx context.Context, domain policy.Domain) (check.DaemonView, error) {
	client, err := adminClient(d.config)
	if err != nil {
		return check.DaemonView{}, err
	}
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return check.DaemonView{}, err
	}
	v := check.DaemonView{Listen: status.Listeners}
	known, err := client.Show(ctx, domain.String())
	switch {
	case errors.Is(err, admin.ErrNotKnown):
		v.Lines = []string{"it knows nothing of the domain"}
		return v, nil
	case err != nil:
		return check.DaemonView{}, err
	}
	v.STS, v.Lines = factOf(&known), describeDomain(&known)
	return v, nil
}

// describeDomain shows what a daemon knows of a domain.
func describeDomain(known *admin.Domain) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if p := known.Policy; p != nil {
		say("policy   mode %s, id %s, fetched %s, expires %s", p.Mode, p.ID, p.Fetched.Format(time.RFC3339), p.Expires.Format(time.RFC3339))
	}
	if t := known.Record; t != nil {
		say("record   %s %s, looked at %s", t.State, t.Detail, t.Looked.Format(time.RFC3339))
	}
	if f := known.Failure; f != nil {
		say("failure  %s: %s, at %s, %d times", f.Kind, f.Reason, f.At.Format(time.RFC3339), f.Count)
	}
	for _, h := range known.Hops {
		say("DANE     %s: MX %s %s, until %s", h.NextHop, h.MX, h.Detail, h.Expires.Format(time.RFC3339))
	}
	for _, s := range append(known.UnderWay, known.Next...) {
		say("next     %s: %s", s.At.Format(time.RFC3339), s.What)
	}
	return lines
}

// factOf returns the fact of a domain as far as it decides about mail.
func factOf(d *admin.Domain) policy.STS {
	fact := policy.STS{Lost: d.Lost}
	if d.Policy == nil || !d.Policy.InForce {
		return fact
	}
	read, err := mtasts.ParsePolicy(d.Policy.Text)
	if err != nil {
		return fact
	}
	fact.Policy, fact.ID, fact.Fetched, fact.Record = read, d.Policy.ID, d.Policy.Fetched, policy.RecordFound
	return fact
}
