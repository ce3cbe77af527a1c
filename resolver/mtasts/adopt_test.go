package mtasts

import (
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

func TestAfterAdoption(t *testing.T) {
	const day = 24 * time.Hour
	now := 10 * time.Hour
	failing := failedAt(learned(7*day), "A", 0)
	failing.Lost, failing.Wanted = true, "B"
	for _, tt := range []struct {
		name    string
		prev    policy.STS
		policy  *policy.STSPolicy
		ago     time.Duration
		spread  float64
		refresh time.Duration // after now; 0 is never
	}{
		{"fetched just now", policy.STS{}, enforce(7 * day), 0, 0, day},
		{"the next fetch is counted from that of the other", policy.STS{}, enforce(7 * day), 6 * time.Hour, 0, 18 * time.Hour},
		{"and spread by a number of our own", policy.STS{}, enforce(7 * day), 6 * time.Hour, 1, 18*time.Hour - day/10},
		{"one that is overdue is due at once", policy.STS{}, enforce(7 * day), 30 * time.Hour, 0, -6 * time.Hour},
		{"half of a short life", policy.STS{}, enforce(day), 2 * time.Hour, 0, 10 * time.Hour},
		{"what lives too short is renewed by queries", policy.STS{}, enforce(5 * time.Minute), time.Minute, 0, 0},
		{"failures of our own are over", failing, enforce(7 * day), time.Hour, 0, 23 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fetched := at(now - tt.ago)
			got := production.afterAdoption(at(now), tt.prev, adopted{policy: tt.policy, id: "B", fetched: fetched, spread: tt.spread})
			if got.Policy != tt.policy || !got.Fetched.Equal(fetched) || got.ID != "B" {
				t.Errorf("got policy %v fetched at %v under %q", got.Policy, got.Fetched, got.ID)
			}
			if got.Wanted != "" || got.Lost || got.Failure != (policy.Failure{}) {
				t.Errorf("left over: wanted %q, lost %v, failure %v", got.Wanted, got.Lost, got.Failure)
			}
			if tt.refresh == 0 != got.Refresh.IsZero() || tt.refresh != 0 && !got.Refresh.Equal(at(now+tt.refresh)) {
				t.Errorf("refresh at %v, want %v", got.Refresh, at(now+tt.refresh))
			}
		})
	}
}
