package main

import (
	"strings"
	"testing"
	"time"

	"tlspolicyd/internal/admin"
)

func TestStatusOfADaemonInTrouble(t *testing.T) {
	s := admin.Status{
		Version: "1.2.3", Started: noon.Add(-72 * time.Hour), Listeners: []string{"127.0.0.1:8461", "unix:/run/x"}, DANE: true,
		DNS: []admin.DNSServer{
			{Address: "192.0.2.1:53", Test: "failed", Detail: "no AD", Tested: noon.Add(-time.Minute)},
			{Address: "127.0.0.1:53", Trusted: true, Test: "silent", Detail: "connection refused", Tested: noon},
		},
		Stats: admin.Stats{Policies: 1, Absences: 1, Unwritten: 2, Unshared: 4, Overdue: 3, Expiring: 1,
			Shared:         &admin.SharedStore{Address: "redis://192.0.2.2:6379", Since: noon.Add(-time.Hour), Error: "i/o timeout"},
			Store:          admin.StoreStats{Kind: "file", Path: "/p.db", Policies: 1, Failures: 1, File: 4096, Limit: 1 << 20, ReadOnly: true, Damaged: 1},
			LastStoreError: &admin.StoreError{At: noon.Add(-3 * time.Hour), Op: "save", Error: "no space left on device"}},
	}
	const want = `version       1.2.3
started       2026-02-26 12:00:00 UTC (3 d ago)
listening     127.0.0.1:8461, unix:/run/x
DANE          off: no DNS server validates, or may be believed that it does
DNS server    192.0.2.1:53: failed: no AD; its AD bit does not count (see dns.trust_ad); tested 2026-03-01 11:59:00 UTC (60 s ago)
DNS server    127.0.0.1:53: silent: connection refused; tested 2026-03-01 12:00:00 UTC (now)
memory        1 domain with a policy in force, 1 domain without
store         /p.db: 1 policy, 1 failed fetch
              4.0 KiB of at most 1.0 MiB
              it cannot be written to at present
              1 damaged file is being copied
refresh       3 overdue
expiring      1 policy past half of life that cannot be fetched again
unwritten     2 records
store error   2026-03-01 09:00:00 UTC (3 h ago): save: no space left on device
shared store  redis://192.0.2.2:6379: out of reach since 2026-03-01 11:00:00 UTC (60 min ago); 4 domains to be saved in it or removed from it
              last error: i/o timeout
`
	var b strings.Builder
	p := newSheet(&b, noon)
	p.zone = time.UTC
	p.status(&s)
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhatIsSaidOfDANE(t *testing.T) {
	server := func(test string) admin.DNSServer { return admin.DNSServer{Test: test} }
	tests := []struct {
		name string
		s    admin.Status
		want string
	}{
		{"disabled", admin.Status{DNS: []admin.DNSServer{server("passed")}}, "off (dane.enabled: false)"},
		{"one validates", admin.Status{DANE: true, DNS: []admin.DNSServer{server("failed"), server("passed")}}, "looked at"},
		{"none validates", admin.Status{DANE: true, DNS: []admin.DNSServer{server("failed"), server("silent")}},
			"off: no DNS server validates, or may be believed that it does"},
		{"silence", admin.Status{DANE: true, DNS: []admin.DNSServer{server("silent"), server("untested")}},
			"not known: no DNS server answers"},
		{"nothing yet", admin.Status{DANE: true, DNS: []admin.DNSServer{server("untested")}},
			"not known: the DNS servers are yet to be tested"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := daneWords(&tt.s); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAStoreThatCannotTell(t *testing.T) {
	var b strings.Builder
	p := newSheet(&b, noon)
	p.store(&admin.StoreStats{Kind: "file", Path: "/p.db", Error: "the store is closed"})
	if err := p.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "store         /p.db: the store is closed\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
