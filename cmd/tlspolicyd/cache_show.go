package main

import (
	"fmt"
	"strings"
	"time"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/printable"
)

// domain prints all that is known of a domain.
func (p *sheet) domain(d *admin.Domain) {
	fmt.Fprintf(p, "%s: %s\n\n", printable.Line(d.Domain), sourceWords(d))
	if !d.Used.IsZero() {
		p.line("last asked", "%s", p.at(d.Used))
	}
	p.policy(d.Policy)
	p.trouble(d)
	p.record(d.Record)
	p.failure(d.Failure)
	if c := d.Churn; c != nil {
		p.line("churn", "%s of the id that changed nothing else, since %s", plural(c.Count, "change", "changes"), p.at(c.Since))
	}
	for i := range d.Hops {
		p.hop(&d.Hops[i])
	}
	p.stored(d)
	for _, s := range d.UnderWay {
		p.line("under way", "since %s: %s", p.at(s.At), s.What)
	}
	label := "next"
	for _, s := range d.Next {
		p.line(label, "%s: %s", p.at(s.At), s.What)
		label = ""
	}
}

// sourceWords says in a sentence what the rest is about.
func sourceWords(d *admin.Domain) string {
	switch {
	case d.Policy != nil && d.Policy.InForce:
		return "a policy of mode " + d.Policy.Mode + " is in force" + whence(d)
	case d.Lost:
		return "the store may have known a policy, and cannot say which; mail waits"
	case d.Source == "" && d.StoreError != "":
		return "what is known of it cannot be read"
	case d.Policy != nil:
		return "its policy has expired; it is not applied" + whence(d)
	default:
		return absenceWords(d) + whence(d)
	}
}

// absenceWords says why there is no policy.
func absenceWords(d *admin.Domain) string {
	state := ""
	if d.Record != nil {
		state = d.Record.State
	}
	switch {
	case state == "absent":
		return "it publishes no policy"
	case state == "failed":
		return "whether it publishes a policy could not be looked up"
	case d.Failure != nil:
		return "it announces a policy, which could not be fetched"
	default:
		return "no policy is known"
	}
}

func whence(d *admin.Domain) string {
	switch d.Source {
	case "memory":
		return " (from memory)"
	case "unwritten":
		return " (from memory; the store does not have it yet)"
	case "store":
		return " (from the store)"
	default:
		return ""
	}
}

func (p *sheet) policy(q *admin.Policy) {
	if q == nil {
		return
	}
	state := "expired"
	if q.InForce {
		state = "in force"
	}
	maxAge := time.Duration(q.MaxAge) * time.Second
	p.line("policy", "mode %s, %s, max_age %d (%s), id %s", q.Mode, state, q.MaxAge, roughly(maxAge), q.ID)
	if len(q.MX) > 0 {
		p.line("  mx", "%s", strings.Join(q.MX, ", "))
	}
	p.line("  fetched", "%s", p.at(q.Fetched))
	if q.Refresh.IsZero() {
		p.line("  refresh", "none planned")
	} else {
		p.line("  refresh", "%s", p.at(q.Refresh))
	}
	p.line("  expires", "%s", p.at(q.Expires))
}

// trouble prints what keeps a policy from being known or renewed.
func (p *sheet) trouble(d *admin.Domain) {
	if d.Expiring {
		p.line("warning", "the policy is past half of its life, and cannot be fetched again")
	}
	if !d.DamagedSince.IsZero() {
		p.line("damaged", "the record in the store, seen %s", p.at(d.DamagedSince))
	}
}

func (p *sheet) record(r *admin.TXT) {
	if r == nil {
		return
	}
	text := r.State
	if r.Detail != "" {
		text += ": " + r.Detail
	}
	p.line("TXT record", "%s", text)
	p.line("  looked", "%s", p.at(r.Looked))
}

func (p *sheet) failure(f *admin.Failure) {
	if f == nil {
		return
	}
	p.line("failure", "%s: %s", f.Kind, f.Reason)
	p.line("  last", "%s, %s in a row", p.at(f.At), plural(f.Count, "failure", "failures"))
}

func (p *sheet) hop(h *admin.NextHop) {
	text := h.NextHop + ": MX " + h.MX
	if h.Detail != "" {
		text += ": " + h.Detail
	}
	p.line("DANE", "%s", text)
	for _, host := range h.Hosts {
		text := fmt.Sprintf("%d %s: %s", host.Preference, host.Name, host.State)
		if host.Detail != "" {
			text += ": " + host.Detail
		}
		p.line("  host", "%s", text)
	}
	p.line("  learned", "%s", p.at(h.Learned))
	p.line("  until", "%s", p.at(h.Expires))
}

func (p *sheet) stored(d *admin.Domain) {
	switch {
	case d.StoreError != "":
		p.line("store", "%s", d.StoreError)
	case d.Stored == nil:
		p.line("store", "no record")
	case d.Stored.Mode == "":
		p.line("store", "a failed fetch")
	default:
		p.line("store", "mode %s, id %s, fetched %s", d.Stored.Mode, d.Stored.ID, p.at(d.Stored.Fetched))
	}
	if d.Unwritten {
		p.line("", "it is yet to be brought up to date")
	}
	switch {
	case d.SharedError != "":
		p.line("shared", "%s", d.SharedError)
	case d.Shared != nil:
		// Whoever wrote it there.
		p.line("shared", "mode %s, id %q, fetched %s", d.Shared.Mode, d.Shared.ID, p.at(d.Shared.Fetched))
	}
}

// refreshed prints how a refresh ended, and what applies after it.
func (p *sheet) refreshed(r *admin.Refreshed) {
	fmt.Fprintf(p, "%s: %s\n\n", printable.Line(r.Domain), refreshWords(r))
	p.policy(r.Policy)
	p.record(r.Record)
	p.failure(r.Failure)
}

func refreshWords(r *admin.Refreshed) string {
	kept := "; no policy applies"
	if r.Policy != nil && r.Policy.InForce {
		kept = "; what was in force stays so"
	}
	switch r.Result {
	case resultFetched:
		return "the policy was fetched"
	case resultAbsent:
		return "it publishes no policy"
	case resultTooSoon:
		return "the last fetch was too short a time ago (see cache.recheck)"
	case resultFailed:
		return "the policy could not be fetched" + kept
	default:
		return "whether it publishes a policy could not be looked up" + kept
	}
}
