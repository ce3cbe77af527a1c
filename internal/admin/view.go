package admin

import (
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// unreadable stands for the mode of a policy whose text is none (any more).
const unreadable = "unreadable"

// domain makes the object of a view.
func (s *Server) domain(v *cache.View) *Domain {
	d := &Domain{
		Domain: v.Domain.String(), Now: stamp(v.Now), Known: v.Known(), Source: v.Source, Used: stamp(v.LastUse),
		Policy: policyOf(v.Now, &v.STS), Record: txtOf(&v.STS), Failure: failureOf(&v.STS.Failure),
		Lost: v.STS.Lost, DamagedSince: stamp(v.Damaged), Expiring: v.Expiring,
		Unwritten: v.Unwritten, UnderWay: stepsOf(v.UnderWay), Next: stepsOf(v.Next),
	}
	if c := v.STS.Churn; c.Count > 0 {
		d.Churn = &Churn{Count: c.Count, Since: stamp(c.Since)}
	}
	for i := range v.Hops {
		d.Hops = append(d.Hops, nextHopOf(&v.Hops[i]))
	}
	if v.Record != nil {
		d.Stored = s.row(v.Record)
	}
	if v.StoreErr != nil {
		d.StoreError = v.StoreErr.Error()
	}
	if v.Shared != nil {
		d.Shared = s.row(v.Shared)
	}
	if v.SharedErr != nil {
		d.SharedError = v.SharedErr.Error()
	}
	return d
}

// row makes the line of a record.
func (s *Server) row(r *cache.Record) *Row {
	row := &Row{
		Domain: r.Domain.String(), ID: r.ID, Fetched: stamp(r.Fetched), Expires: stamp(r.Expires),
		Refresh: stamp(r.Refresh), Used: stamp(r.LastUse), Failure: failureOf(&r.Failure),
	}
	if r.Fetched.IsZero() && !r.Unreadable() {
		return row
	}
	row.Mode = unreadable
	if p, err := s.o.Parse(r.Text); err == nil {
		row.Mode = p.Mode.String()
	}
	return row
}

func refreshed(domain policy.Domain, result cache.Renewal, sts *policy.STS) *Refreshed {
	now := time.Now()
	return &Refreshed{
		Domain: domain.String(), Now: stamp(now), Result: result.String(),
		Policy: policyOf(now, sts), Record: txtOf(sts), Failure: failureOf(&sts.Failure),
	}
}

func policyOf(now time.Time, sts *policy.STS) *Policy {
	if sts.Policy == nil {
		return nil
	}
	p := &Policy{
		InForce: sts.InForce(now), Mode: sts.Policy.Mode.String(), MaxAge: int64(sts.Policy.MaxAge / time.Second),
		ID: sts.ID, Fetched: stamp(sts.Fetched), Expires: stamp(sts.Expires()), Refresh: stamp(sts.Refresh),
		Text: sts.Policy.Text,
	}
	for _, mx := range sts.Policy.MX {
		p.MX = append(p.MX, mx.String())
	}
	return p
}

func txtOf(sts *policy.STS) *TXT {
	if sts.Record == policy.RecordUnknown {
		return nil
	}
	return &TXT{State: sts.Record.String(), Detail: sts.Detail, Looked: stamp(sts.Looked), Recheck: stamp(sts.Recheck)}
}

func failureOf(f *policy.Failure) *Failure {
	if f.At.IsZero() {
		return nil
	}
	return &Failure{ID: f.ID, At: stamp(f.At), Count: f.Count, Kind: f.Kind, Reason: f.Reason}
}

func nextHopOf(h *cache.HopView) NextHop {
	n := NextHop{
		NextHop: h.Hop.String(), MX: h.DANE.MX.String(), Detail: h.DANE.Detail,
		Learned: stamp(h.DANE.Learned), Expires: stamp(h.DANE.Expires),
	}
	for _, host := range h.DANE.Hosts {
		n.Hosts = append(n.Hosts, Host{Name: host.Name, Preference: host.Preference, State: host.State.String(), Detail: host.Detail})
	}
	return n
}

func stepsOf(steps []cache.Step) []Step {
	var list []Step
	for _, s := range steps {
		list = append(list, Step{At: stamp(s.At), What: s.What})
	}
	return list
}

// stamp returns a time as it is written: by the wall clock, in UTC, to the
// second.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}
