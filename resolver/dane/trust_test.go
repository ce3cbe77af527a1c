package dane

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// The first server validates and does something wrong when it is asked for one
// type; the second is far away, and gives an answer of some kind.
func TestASecondServerThatDoesNotValidateProvesNothing(t *testing.T) {
	const (
		good        = "secure usable"
		mxFailed    = "failed "
		hostFailed  = "secure failed"
		unreachable = "secure unreachable"
	)
	types := []struct {
		asked []string
		want  string
	}{
		{[]string{"MX"}, mxFailed},
		{[]string{"A"}, good}, // AAAA is there
		{[]string{"AAAA"}, good},
		{[]string{"A", "AAAA"}, unreachable},
		{[]string{"CNAME"}, hostFailed},
		{[]string{"TLSA"}, hostFailed},
	}
	answers := map[string][]dnstest.Fault{
		"records with AD":    nil,
		"records without AD": {dnstest.NoAD},
		"NODATA with AD":     {dnstest.NoData},
		"NODATA without AD":  {dnstest.NoData, dnstest.NoAD},
		"NXDOMAIN":           {dnstest.NXDomain, dnstest.NoAD},
	}
	for _, wrong := range []struct {
		name  string
		fault dnstest.Fault
		final bool
	}{{"silent", dnstest.Drop, false}, {"REFUSED", dnstest.Refused, false}, {"SERVFAIL", dnstest.ServFail, true}} {
		for _, tt := range types {
			for name, answer := range answers {
				t.Run(tt.asked[0]+" "+wrong.name+", then "+name, func(t *testing.T) {
					second := new(dnstest.Zones)
					second.SetZone(chained)
					d := withFaults(t, func(r *dnstest.Resolver) {
						r.Second = second
						for _, qtype := range tt.asked {
							r.Fault(dnstest.Any, qtype, wrong.fault)
							second.Fault(dnstest.Any, qtype, answer...)
						}
					})
					if got := outcome(d); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
					if n := second.Count(tt.asked[0]); (n == 0) != wrong.final {
						t.Errorf("the second server was asked %d times", n)
					}
				})
			}
		}
	}
}

// A server that did not answer its test, and answers everything else.
func TestWithoutATestThatWasPassedNothingIsInsecure(t *testing.T) {
	for _, tt := range []struct {
		name  string
		zones string
		want  string
	}{
		{"all with AD", `
			$SECURE relay.test
			relay.test. MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1
			mx.relay.test. AAAA 2001:db8::1
			_25._tcp.mx.relay.test. ` + match, "secure usable"},
		{"an unsigned domain", `
			relay.test. MX 10 mx.relay.test.`, "failed "},
		{"an unsigned domain without MX records", `
			relay.test. A 192.0.2.1`, "failed "},
		{"a domain that does not exist, unsigned", ``, "failed "},
		{"one that does not exist, signed", `$SECURE relay.test`, "none "},
		{"an unsigned host", `
			$SECURE relay.test
			relay.test. MX 10 mx.other.test.
			mx.other.test. A 192.0.2.1`, "secure unreachable"},
		{"an unsigned host that does not exist", `
			$SECURE relay.test
			relay.test. MX 10 mx.other.test.`, "secure unreachable"},
		{"unsigned TLSA records", `
			$SECURE relay.test
			$INSECURE _tcp.mx.relay.test
			relay.test. MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1
			_25._tcp.mx.relay.test. ` + match, "secure failed"},
		{"an unsigned absence of TLSA records", `
			$SECURE relay.test
			$INSECURE _tcp.mx.relay.test
			relay.test. MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1`, "secure failed"},
	} {
		for _, fault := range []dnstest.Fault{dnstest.Drop, dnstest.ServFail, dnstest.Refused, dnstest.Malformed} {
			t.Run(tt.name, func(t *testing.T) {
				d := withFaults(t, func(r *dnstest.Resolver) {
					r.SetZone(tt.zones + "\n")
					r.Fault(".", "NS", fault)
				})
				if got := outcome(d); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if life := d.Expires.Sub(d.Learned); tt.want == "failed " && life > failedLife {
					t.Errorf("life %v, want at most %v", life, failedLife)
				}
			})
		}
	}
}

func TestDANEIsOffWhileNoServerValidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(chained)
		r.Fault(".", "NS", dnstest.NoAD)
		lookup := New(r)
		h := hop(t, "relay.test")
		off := lookup.DANE(t.Context(), h, policy.DANE{})
		if life := off.Expires.Sub(off.Learned); off.MX != policy.MXOff || life != offLife {
			t.Errorf("got %v for %v, want off for %v", off.MX, life, offLife)
		}
		if n := r.Count(dnstest.Any) - r.Count("NS"); n != 0 {
			t.Errorf("%d questions, want none", n)
		}

		r.ClearFaults()
		if got := lookup.DANE(t.Context(), h, off); got.MX != policy.MXOff {
			t.Errorf("before the next test: got %v", got.MX)
		}
		ctx, stop := context.WithCancel(t.Context())
		var tests sync.WaitGroup
		tests.Go(func() { _ = r.Client().Run(ctx) }) // Ends with ctx only.
		defer tests.Wait()
		defer stop()
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		on := lookup.DANE(t.Context(), h, off)
		if got, want := outcome(on), "secure usable"; got != want {
			t.Errorf("after it: got %q, want %q", got, want)
		}

		// Off is off: what was learned before does not go on.
		r.Fault(".", "NS", dnstest.NoAD)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		on.Expires = time.Now().Add(time.Hour)
		if got := lookup.DANE(t.Context(), h, on); got.MX != policy.MXOff {
			t.Errorf("when it does not validate any more: got %v", got.MX)
		}
	})
}

func TestTheFirstLookupWaitsForTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone("relay.test. MX 10 mx.relay.test.\n") // Unsigned.
		r.Delay(".", "NS", 1500*time.Millisecond)
		lookup := New(r)
		for _, wait := range []time.Duration{1500 * time.Millisecond, 0} {
			start := time.Now()
			d := lookup.DANE(t.Context(), hop(t, "relay.test"), policy.DANE{})
			if took := time.Since(start); d.MX != policy.MXInsecure || took != wait {
				t.Errorf("got %v after %v, want insecure after %v", d.MX, took, wait)
			}
		}
		if n := r.Count("NS"); n != 1 {
			t.Errorf("%d tests, want 1", n)
		}
	})
}
