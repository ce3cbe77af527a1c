package mtasts

import (
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

func wants(s policy.STS, id string) policy.STS {
	s.Wanted = id
	return s
}

func TestAfterFetchSuccess(t *testing.T) {
	const day = 24 * time.Hour
	now := 10 * time.Hour
	tests := []struct {
		name    string
		prev    policy.STS
		policy  *policy.STSPolicy
		spread  float64
		id      string
		refresh time.Duration // after now; 0 is never
		churn   int
	}{
		{"first", wants(policy.STS{Lost: true}, "A"), enforce(7 * day), 0, "A", day, 0},
		{"spread to the full", wants(policy.STS{}, "A"), enforce(7 * day), 1, "A", day - day/10, 0},
		{"half of a short max_age", wants(policy.STS{}, "A"), enforce(day), 0, "A", day / 2, 0},
		{"five minutes at least", wants(policy.STS{}, "A"), enforce(6 * time.Minute), 0.9, "A", 5 * time.Minute, 0},
		{"five minutes are renewed by queries", wants(policy.STS{}, "A"), enforce(5 * time.Minute), 0, "A", 0, 0},
		{"max_age 0", wants(policy.STS{}, "A"), enforce(0), 0, "A", 0, 0},
		{"refresh keeps the id", learned(7 * day), enforce(7 * day), 0, "A", day, 0},
		{"refresh ends failures", failedAt(learned(7*day), "A", 0), enforce(7 * day), 0, "A", day, 0},
		{"none replaces enforce", wants(learned(7*day), "B"), &policy.STSPolicy{Mode: policy.ModeNone, MaxAge: day, Text: "none"}, 0, "B", day / 2, 0},
		{"testing replaces enforce", learned(7 * day), &policy.STSPolicy{Mode: policy.ModeTesting, MaxAge: day, Text: "testing"}, 0, "A", day / 2, 0},
		{"changed id, equal text", wants(learned(7*day), "B"), enforce(7 * day), 0, "B", day, 1},
		{"changed id, equal text again", wants(churnedAt(learned(7*day), 3, now-time.Minute), "B"), enforce(7 * day), 0, "B", day, 4},
		{"changed id, equal text, window over", wants(churnedAt(learned(7*day), 5, now-time.Hour), "B"), enforce(7 * day), 0, "B", day, 1},
		{"changed id and text", wants(churnedAt(learned(7*day), 2, now-time.Minute), "B"), &policy.STSPolicy{Mode: policy.ModeEnforce, MaxAge: day, Text: "other"}, 0, "B", day / 2, 2},
		{"same id again", wants(learned(time.Minute), "A"), enforce(time.Minute), 0, "A", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := production.afterFetch(at(now), tt.prev, fetchOutcome{started: at(now), policy: tt.policy, spread: tt.spread})
			if got.Policy != tt.policy || !got.Fetched.Equal(at(now)) || got.ID != tt.id {
				t.Errorf("got policy %v fetched at %v under %q", got.Policy, got.Fetched, got.ID)
			}
			if got.Wanted != "" || got.Lost || got.Failure != (policy.Failure{}) {
				t.Errorf("left over: wanted %q, lost %v, failure %v", got.Wanted, got.Lost, got.Failure)
			}
			if tt.refresh == 0 != got.Refresh.IsZero() || tt.refresh != 0 && !got.Refresh.Equal(at(now+tt.refresh)) {
				t.Errorf("refresh: got %v, want after %v", got.Refresh, tt.refresh)
			}
			if got.Churn.Count != tt.churn {
				t.Errorf("churn: got %d, want %d", got.Churn.Count, tt.churn)
			}
			if !got.Enforces(at(now)) && tt.policy.Mode == policy.ModeEnforce {
				t.Errorf("the policy does not count for the question that waited for it")
			}
		})
	}
}

func TestAfterFetchFailure(t *testing.T) {
	const (
		week = 7 * 24 * time.Hour
		min5 = 5 * time.Minute
	)
	many := failedAt(learned(week), "A", 0)
	many.Failure.Count = 100
	tests := []struct {
		name    string
		now     time.Duration
		prev    policy.STS
		id      string
		count   int
		refresh time.Duration // from t0; 0 is never
	}{
		{"first fetch", 0, wants(policy.STS{}, "A"), "A", 1, 0},
		{"first fetch again", min5, wants(failedAt(policy.STS{}, "A", 0), "A"), "A", 2, 0},
		{"changed id leaves the refresh alone", time.Hour, wants(learned(week), "B"), "B", 1, 24 * time.Hour},
		{"changed id puts off a refresh of the same file", 24*time.Hour - time.Minute, wants(learned(week), "B"), "B", 1, 24*time.Hour + 4*time.Minute},
		{"refresh", 24 * time.Hour, learned(week), "A", 1, 24*time.Hour + min5},
		{"second refresh", 24 * time.Hour, failedAt(learned(week), "A", 0), "A", 2, 24*time.Hour + 2*min5},
		{"many refreshes", 24 * time.Hour, many, "A", 101, 30 * time.Hour},
		{"a quarter of the life left", 24 * time.Hour, setCount(failedAt(learned(26*time.Hour), "A", 0), 9), "A", 10, 24*time.Hour + 30*time.Minute},
		{"five minutes at least", 24 * time.Hour, setCount(failedAt(learned(24*time.Hour+6*time.Minute), "A", 0), 9), "A", 10, 24*time.Hour + min5},
		{"no refresh after the end", 24 * time.Hour, learned(24*time.Hour + 4*time.Minute), "A", 1, 0},
		{"expired", 2 * week, wants(learned(week), "A"), "A", 1, 0},
		{"a refresh does not forget the id that failed", time.Hour, failedAt(learned(week), "B", 59*time.Minute), "B", 2, time.Hour + 2*min5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := fetchOutcome{started: at(tt.now), kind: resultStatus, reason: "HTTP status 404, want 200"}
			got := production.afterFetch(at(tt.now), tt.prev, o)
			want := policy.Failure{ID: tt.id, At: at(tt.now), Count: tt.count, Kind: resultStatus, Reason: "HTTP status 404, want 200"}
			if got.Failure != want {
				t.Errorf("failure: got %+v, want %+v", got.Failure, want)
			}
			if tt.refresh == 0 != got.Refresh.IsZero() || tt.refresh != 0 && !got.Refresh.Equal(at(tt.refresh)) {
				t.Errorf("refresh: got %v, want t0+%v", got.Refresh, tt.refresh)
			}
			if got.Policy != tt.prev.Policy || got.ID != tt.prev.ID || !got.Fetched.Equal(tt.prev.Fetched) || got.Churn != tt.prev.Churn {
				t.Errorf("a failure changed the policy")
			}
			if got.Wanted != "" {
				t.Errorf("still wanted: %q", got.Wanted)
			}
		})
	}
}

func setCount(s policy.STS, n int) policy.STS {
	s.Failure.Count = n
	return s
}

func TestRecheckAfterFetch(t *testing.T) {
	failed := fetchOutcome{started: at(2 * time.Second), kind: resultDNS, reason: "no address"}
	fetched := func(maxAge time.Duration) fetchOutcome {
		return fetchOutcome{started: at(2 * time.Second), policy: enforce(maxAge)}
	}
	tests := []struct {
		name    string
		ttl     time.Duration
		outcome fetchOutcome
		want    time.Duration
	}{
		{"failure, long TTL", time.Hour, failed, 2*time.Second + 5*time.Minute},
		{"failure, short TTL", 5 * time.Second, failed, 5 * time.Second},
		{"success, long TTL", 10 * time.Minute, fetched(24 * time.Hour), 10 * time.Minute},
		{"success, short TTL", time.Second, fetched(24 * time.Hour), time.Minute},
		{"success, not beyond the end", time.Hour, fetched(20 * time.Minute), 2*time.Second + 20*time.Minute},
		{"success, renewed by queries", time.Hour, fetched(5 * time.Minute), 2*time.Second + time.Minute},
		{"success, max_age 0", time.Hour, fetched(0), 2*time.Second + time.Minute},
		{"success, max_age 10", time.Hour, fetched(10 * time.Second), 12 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			looked := production.afterLook(t0, policy.STS{}, found("A", tt.ttl))
			got := production.afterFetch(at(2*time.Second), looked, tt.outcome)
			if !got.Recheck.Equal(at(tt.want)) {
				t.Errorf("got t0+%v, want t0+%v", got.Recheck.Sub(t0), tt.want)
			}
		})
	}
}

func TestRefreshThatOutlivesThePolicyHoldsNothingUp(t *testing.T) {
	end := time.Hour
	prev := learned(end)
	o := fetchOutcome{started: at(end - 10*time.Second), kind: resultTimeout, reason: "time-out"}
	s := production.afterFetch(at(end+50*time.Second), prev, o)
	if !s.Failure.At.Equal(o.started) {
		t.Errorf("got failure at %v, want the start of the fetch", s.Failure.At)
	}
	s = production.afterLook(at(end+51*time.Second), s, found("A", time.Minute))
	if s.Wanted != "A" {
		t.Errorf("no fetch after the end of the policy; next look after %v", s.Recheck.Sub(t0))
	}
}

func TestChangedIDThatFailsIsTriedEveryFiveMinutes(t *testing.T) {
	s := learned(7 * 24 * time.Hour)
	fetches := 0
	for now := time.Hour; now < 2*time.Hour; now += time.Second {
		if at(now).Before(s.Recheck) {
			continue
		}
		if s = production.afterLook(at(now), s, found("B", time.Minute)); s.Wanted == "" {
			continue
		}
		fetches++
		s = production.afterFetch(at(now), s, fetchOutcome{started: at(now), kind: resultConnect, reason: "refused"})
		if !s.Enforces(at(now)) {
			t.Fatal("a failure ended the policy")
		}
	}
	if fetches != 12 {
		t.Errorf("got %d fetches in an hour, want 12", fetches)
	}
}

func TestFailingIDsByTurnsAreTriedSeldom(t *testing.T) {
	for _, test := range []struct {
		name string
		s    policy.STS
	}{{"policy in force", learned(7 * 24 * time.Hour)}, {"no policy", policy.STS{}}} {
		s, fetches := test.s, 0
		for now := time.Hour; now < 2*time.Hour; now += time.Second {
			if at(now).Before(s.Recheck) {
				continue
			}
			id := string(rune('B' + int(now/time.Minute)%2))
			if s = production.afterLook(at(now), s, found(id, time.Minute)); s.Wanted != "" {
				fetches++
				s = production.afterFetch(at(now), s, fetchOutcome{started: at(now), kind: resultConnect, reason: "refused"})
			}
		}
		// Six in the first five minutes, then one at 20, 35 and 50 minutes.
		if fetches > 9 {
			t.Errorf("%s: got %d fetches in an hour, want 9 at most", test.name, fetches)
		}
	}
}

func TestChurningDomainIsFetchedSeldom(t *testing.T) {
	s := learned(7 * 24 * time.Hour)
	fetches, id := 0, ""
	for now := time.Minute; now <= time.Hour; now += time.Second {
		if at(now).Before(s.Recheck) {
			continue
		}
		id += "x"
		if s = production.afterLook(at(now), s, found(id, 0)); s.Wanted != "" {
			fetches++
			s = production.afterFetch(at(now), s, fetchOutcome{started: at(now), policy: enforce(7 * 24 * time.Hour)})
		}
	}
	// Five within five minutes, then one at 20, 35 and 50 minutes.
	if fetches != 8 {
		t.Errorf("got %d fetches in an hour, want 8", fetches)
	}
}
