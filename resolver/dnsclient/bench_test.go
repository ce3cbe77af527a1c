package dnsclient_test

import (
	"testing"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
)

func BenchmarkQuery(b *testing.B) {
	srv := dnstest.Start(b, bigZone())
	c, err := dnsclient.New(dnsclient.Options{Servers: []string{srv.Addr()}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Query(b.Context(), "a.test", dns.TypeA); err != nil {
			b.Fatal(err)
		}
	}
}
