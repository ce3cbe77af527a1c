package main

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/internal/admin"
)

// noon is the moment at which the sheets of these tests are printed.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestTheFirstLineOfADomain(t *testing.T) {
	inForce := &admin.Policy{InForce: true, Mode: "enforce"}
	tests := []struct {
		name string
		d    admin.Domain
		want string
	}{
		{"in force", admin.Domain{Source: "memory", Policy: inForce}, "a policy of mode enforce is in force (from memory)"},
		{"in force, unwritten", admin.Domain{Source: "unwritten", Policy: inForce},
			"a policy of mode enforce is in force (from memory; the store does not have it yet)"},
		{"in force, though the store is damaged", admin.Domain{Source: "memory", Policy: inForce, Lost: true},
			"a policy of mode enforce is in force (from memory)"},
		{"expired", admin.Domain{Source: "store", Policy: &admin.Policy{Mode: "enforce"}},
			"its policy has expired; it is not applied (from the store)"},
		{"lost", admin.Domain{Source: "memory", Lost: true, Record: &admin.TXT{State: "absent"}},
			"the store may have known a policy, and cannot say which; mail waits"},
		{"unreadable", admin.Domain{StoreError: "damaged record"}, "what is known of it cannot be read"},
		{"absent", admin.Domain{Source: "memory", Record: &admin.TXT{State: "absent"}}, "it publishes no policy (from memory)"},
		{"lookup failed", admin.Domain{Source: "memory", Record: &admin.TXT{State: "failed"}},
			"whether it publishes a policy could not be looked up (from memory)"},
		{"fetch failed", admin.Domain{Source: "memory", Record: &admin.TXT{State: "found"}, Failure: &admin.Failure{}},
			"it announces a policy, which could not be fetched (from memory)"},
		{"fetch failed, after a restart", admin.Domain{Source: "store", Failure: &admin.Failure{}},
			"it announces a policy, which could not be fetched (from the store)"},
		{"only hosts", admin.Domain{}, "no policy is known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.d.Domain = "example.com"
			var b strings.Builder
			p := newSheet(&b, noon)
			p.domain(&tt.d)
			if err := p.Flush(); err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(b.String(), "\n")
			if want := "example.com: " + tt.want; first != want {
				t.Errorf("got %q, want %q", first, want)
			}
		})
	}
}

// What a domain publishes does not write to the terminal what it likes.
func TestADomainInTrouble(t *testing.T) {
	d := admin.Domain{
		Domain: "example.com", Source: "memory", Expiring: true, DamagedSince: noon.Add(-time.Hour), Unwritten: true,
		Policy:     &admin.Policy{InForce: true, Mode: "enforce", MaxAge: 86400, ID: "1", Fetched: noon.Add(-13 * time.Hour), Expires: noon.Add(11 * time.Hour)},
		Failure:    &admin.Failure{Kind: "tls", Reason: "red \x1b[31m\nnext line", At: noon.Add(-time.Minute), Count: 2},
		Churn:      &admin.Churn{Count: 1, Since: noon},
		Hops:       []admin.NextHop{{NextHop: "example.com:587", MX: "failed", Detail: "SERVFAIL", Learned: noon, Expires: noon.Add(5 * time.Second)}},
		StoreError: "disk on fire",
		UnderWay:   []admin.Step{{At: noon, What: "this"}},
	}
	const want = `example.com: a policy of mode enforce is in force (from memory)

policy        mode enforce, in force, max_age 86400 (24 h), id 1
  fetched     2026-02-28 23:00:00 UTC (13 h ago)
  refresh     none planned
  expires     2026-03-01 23:00:00 UTC (in 11 h)
warning       the policy is past half of its life, and cannot be fetched again
damaged       the record in the store, seen 2026-03-01 11:00:00 UTC (60 min ago)
failure       tls: red \u001b[31m\u000anext line
  last        2026-03-01 11:59:00 UTC (60 s ago), 2 failures in a row
churn         1 change of the id that changed nothing else, since 2026-03-01 12:00:00 UTC (now)
DANE          example.com:587: MX failed: SERVFAIL
  learned     2026-03-01 12:00:00 UTC (now)
  until       2026-03-01 12:00:05 UTC (in 5 s)
store         disk on fire
              it is yet to be brought up to date
under way     since 2026-03-01 12:00:00 UTC (now): this
`
	var b strings.Builder
	p := newSheet(&b, noon)
	p.zone = time.UTC
	p.domain(&d)
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
