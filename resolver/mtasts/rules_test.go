package mtasts

import (
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// t0 is when the stories of the tests begin.
var t0 = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return t0.Add(d) }

// production are the rules with the defaults.
var production = rules{recheck: time.Minute, refresh: 24 * time.Hour}

func enforce(maxAge time.Duration) *policy.STSPolicy {
	return &policy.STSPolicy{Mode: policy.ModeEnforce, MaxAge: maxAge, Text: "enforce"}
}

// learned is a fact with a policy of id A that was fetched at t0.
func learned(maxAge time.Duration) policy.STS {
	return policy.STS{
		Policy: enforce(maxAge), ID: "A", Fetched: t0,
		Record: policy.RecordFound, Looked: t0, Recheck: at(time.Minute),
		Refresh: at(min(24*time.Hour, maxAge/2)),
	}
}

func failedAt(s policy.STS, id string, when time.Duration) policy.STS {
	s.Failure = policy.Failure{ID: id, At: at(when), Count: 1, Kind: resultStatus, Reason: "HTTP status 404, want 200"}
	return s
}

func churnedAt(s policy.STS, count int, since time.Duration) policy.STS {
	s.Churn = policy.Churn{Count: count, Since: at(since)}
	return s
}

func found(id string, ttl time.Duration) lookOutcome {
	return lookOutcome{state: policy.RecordFound, id: id, ttl: ttl}
}

func absent(ttl time.Duration) lookOutcome {
	return lookOutcome{state: policy.RecordAbsent, ttl: ttl, detail: "none"}
}

func noAnswer() lookOutcome {
	return lookOutcome{state: policy.RecordFailed, detail: "SERVFAIL"}
}

func TestAfterLook(t *testing.T) {
	const (
		week = 7 * 24 * time.Hour
		min5 = 5 * time.Minute
	)
	fast := rules{recheck: time.Second, refresh: time.Hour}
	tests := []struct {
		name    string
		rules   rules
		now     time.Duration
		prev    policy.STS
		outcome lookOutcome
		want    string
		recheck time.Duration
	}{
		{"first record is fetched", production, 0, policy.STS{}, found("A", min5), "A", min5},
		{"first record with a TTL of 0", production, 0, policy.STS{}, found("A", 0), "A", 5 * time.Second},
		{"first record with a TTL of a day", production, 0, policy.STS{}, found("A", 24*time.Hour), "A", time.Hour},
		{"no record", production, 0, policy.STS{}, absent(10 * time.Minute), "", 10 * time.Minute},
		{"no record and no SOA", production, 0, policy.STS{}, absent(0), "", 5 * time.Second},
		{"no record for a day", production, 0, policy.STS{}, absent(24 * time.Hour), "", time.Hour},
		{"no answer", production, 0, policy.STS{}, noAnswer(), "", time.Minute},
		{"no answer, short recheck", fast, 0, policy.STS{}, noAnswer(), "", time.Second},
		{"no record, short recheck", fast, 0, policy.STS{}, absent(0), "", time.Second},

		{"same id", production, time.Hour, learned(week), found("A", min5), "", time.Hour + min5},
		{"same id, TTL below recheck", production, time.Hour, learned(week), found("A", time.Second), "", time.Hour + time.Minute},
		{"same id, long TTL", production, time.Hour, learned(week), found("A", week), "", 2 * time.Hour},
		{"record gone", production, time.Hour, learned(week), absent(min5), "", time.Hour + min5},
		{"no answer with a policy", production, time.Hour, learned(week), noAnswer(), "", time.Hour + time.Minute},
		{"not beyond the end of the policy", production, time.Hour, learned(time.Hour + time.Minute), found("A", min5), "", time.Hour + time.Minute},
		{"no answer just before the end", production, time.Hour, learned(time.Hour + 10*time.Second), noAnswer(), "", time.Hour + 10*time.Second},

		{"another id", production, time.Hour, learned(week), found("B", min5), "B", time.Hour + min5},
		{"ids differ by case", production, time.Hour, learned(week), found("a", min5), "a", time.Hour + min5},
		{"a smaller id is another one", production, time.Hour, withID(learned(week), "20260101"), found("20250101", min5), "20250101", time.Hour + min5},
		{"another id within recheck of a refresh", production, time.Hour + 30*time.Second, refreshed(learned(week), time.Hour), found("B", min5), "", time.Hour + time.Minute},
		{"another id a recheck after the look that fetched slowly", production, time.Minute, slowly(learned(week), 20*time.Second), found("B", min5), "B", time.Minute + min5},

		{"expired, same id", production, 2 * time.Hour, learned(time.Hour), found("A", min5), "A", 2*time.Hour + min5},
		{"expired, record gone", production, 2 * time.Hour, learned(time.Hour), absent(time.Second), "", 2*time.Hour + 5*time.Second},
		{"at the very end", production, time.Hour, learned(time.Hour), found("A", min5), "A", time.Hour + min5},

		{"same id failed 4:59 ago", production, 299 * time.Second, failedAt(policy.STS{}, "A", 0), found("A", time.Hour), "", min5},
		{"same id failed 5:00 ago", production, min5, failedAt(policy.STS{}, "A", 0), found("A", time.Hour), "A", min5 + time.Hour},
		{"same id failed, short TTL", production, time.Minute, failedAt(policy.STS{}, "A", 0), found("A", 10*time.Second), "", 70 * time.Second},
		{"another id after a failure", production, time.Minute, failedAt(policy.STS{}, "A", 0), found("B", min5), "B", 6 * time.Minute},
		{"another id within recheck of a failure", production, 59 * time.Second, failedAt(policy.STS{}, "A", 0), found("B", min5), "", time.Minute},
		{"failed id, short recheck", fast, time.Second, failedAt(policy.STS{}, "A", 0), found("A", min5), "A", time.Second + min5},
		{"changed id failed, policy in force", production, time.Hour, failedAt(learned(week), "B", 58*time.Minute), found("B", time.Hour), "", 63 * time.Minute},
		{"changed id failed, and back to the old one", production, time.Hour, failedAt(learned(week), "B", 58*time.Minute), found("A", min5), "", time.Hour + min5},

		{"failure just before the end holds nothing up", production, time.Hour, failedAt(learned(time.Hour), "A", time.Hour-time.Second), found("A", min5), "A", time.Hour + min5},
		{"failure after the end does", production, time.Hour + time.Minute, failedAt(learned(time.Hour), "A", time.Hour), found("A", time.Hour), "", time.Hour + min5},
		{"failure at the end of max_age 0 does", production, time.Minute, failedAt(learned(0), "A", time.Second), found("A", time.Hour), "", time.Second + min5},

		{"short life in force is fetched again", production, time.Minute, learned(min5), found("A", time.Second), "A", 2 * time.Minute},
		{"short life within recheck", production, 50 * time.Second, slowly(learned(min5), 10*time.Second), found("A", time.Hour), "", time.Minute},
		{"longer life is not", production, time.Minute, learned(min5 + time.Second), found("A", min5), "", min5 + time.Second},
		{"max_age 0 within recheck", production, 59 * time.Second, learned(0), found("A", time.Hour), "", time.Minute},
		{"max_age 0 after recheck", production, time.Minute, learned(0), found("A", time.Hour), "A", time.Minute + time.Hour},

		{"four empty changes", production, 10 * time.Minute, churnedAt(learned(week), 4, 0), found("B", min5), "B", 15 * time.Minute},
		{"five empty changes", production, 10 * time.Minute, churnedAt(learned(week), 5, 0), found("B", time.Hour), "", 15 * time.Minute},
		{"five empty changes, quarter of an hour ago", production, 15 * time.Minute, churnedAt(learned(week), 5, 0), found("B", min5), "B", 20 * time.Minute},
		{"five empty changes, window over", production, 10 * time.Minute, churnedAt(learned(week), 5, -50*time.Minute), found("B", min5), "B", 15 * time.Minute},
		{"five empty changes, window over soon", production, 8 * time.Minute, churnedAt(learned(week), 5, -50*time.Minute), found("B", time.Hour), "", 10 * time.Minute},
		{"five empty changes hold no renewal up", production, 4 * time.Minute, churnedAt(learned(2*time.Minute), 5, 0), found("A", min5), "A", 9 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.rules.afterLook(at(tt.now), tt.prev, tt.outcome)
			if got.Wanted != tt.want {
				t.Errorf("wanted: got %q, want %q", got.Wanted, tt.want)
			}
			if !got.Recheck.Equal(at(tt.recheck)) {
				t.Errorf("recheck: got t0+%v, want t0+%v", got.Recheck.Sub(t0), tt.recheck)
			}
			if !got.Recheck.After(at(tt.now)) {
				t.Errorf("recheck is not after the look")
			}
			if got.Record != tt.outcome.state || got.Detail != tt.outcome.detail || !got.Looked.Equal(at(tt.now)) {
				t.Errorf("the look is not noted: %v %q %v", got.Record, got.Detail, got.Looked)
			}
			checkCarried(t, tt.prev, got)
		})
	}
}

func withID(s policy.STS, id string) policy.STS {
	s.ID = id
	return s
}

// refreshed is s after a refresh.
func refreshed(s policy.STS, when time.Duration) policy.STS {
	s.Fetched = at(when)
	return s
}

// slowly is s with a fetch that ended a time after the look at t0.
func slowly(s policy.STS, after time.Duration) policy.STS {
	s.Fetched = at(after)
	return s
}

// checkCarried checks that a look changes nothing that only a fetch may.
func checkCarried(t *testing.T, prev, next policy.STS) {
	t.Helper()
	if next.Policy != prev.Policy || next.ID != prev.ID || !next.Fetched.Equal(prev.Fetched) {
		t.Errorf("the look changed the policy")
	}
	if next.Refresh != prev.Refresh || next.Failure != prev.Failure || next.Churn != prev.Churn || next.Lost != prev.Lost {
		t.Errorf("the look changed what only a fetch may change")
	}
}

func TestLookKeepsLost(t *testing.T) {
	for _, o := range []lookOutcome{found("A", 0), absent(0), noAnswer()} {
		if got := production.afterLook(t0, policy.STS{Lost: true}, o); !got.Lost {
			t.Errorf("%v: lost is gone", o.state)
		}
	}
}

func TestClockSetBackDoesNotHoldLooksDown(t *testing.T) {
	start := time.Now()
	s := learned(time.Hour)
	s.Fetched = policy.Anchor(start, start).Add(-2 * time.Hour) // over by the monotonic clock
	now := start.Round(0).Add(-90 * time.Minute)                // the wall clock alone says otherwise
	got := production.afterLook(now, s, found("A", time.Minute))
	if !got.Recheck.After(now) {
		t.Errorf("got recheck %v after now", got.Recheck.Sub(now))
	}
}

func TestRetryFollowsShortRecheck(t *testing.T) {
	tests := []struct{ recheck, want time.Duration }{
		{time.Second, time.Second},
		{59 * time.Second, 59 * time.Second},
		{time.Minute, 5 * time.Minute},
		{10 * time.Minute, 5 * time.Minute},
	}
	for _, tt := range tests {
		if got := (rules{recheck: tt.recheck}).retry(); got != tt.want {
			t.Errorf("recheck %v: got %v, want %v", tt.recheck, got, tt.want)
		}
	}
}
