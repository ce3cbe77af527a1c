package dane

import (
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// chained is a domain all of whose kinds of questions are asked: MX, A, AAAA,
// CNAME (the end of the alias is insecure) and TLSA.
const chained = `
$SECURE relay.test
relay.test.        SOA ns.test. root.test. 1 60 60 60 120
relay.test.        MX 10 mx.relay.test.
mx.relay.test.     CNAME host.cdn.test.
_25._tcp.mx.relay.test. ` + match + `
host.cdn.test.     A 192.0.2.1
host.cdn.test.     AAAA 2001:db8::1
`

func TestEveryFaultAtEveryQuestion(t *testing.T) {
	faults := []struct {
		name  string
		fault dnstest.Fault
	}{
		{"SERVFAIL", dnstest.ServFail}, {"REFUSED", dnstest.Refused}, {"time-out", dnstest.Drop},
		{"malformed", dnstest.Malformed}, {"forged id first", dnstest.ForgedFirst}, {"truncated", dnstest.Truncated},
		{"AD missing", dnstest.NoAD}, {"NODATA", dnstest.NoData}, {"NXDOMAIN", dnstest.NXDomain},
	}
	// The outcome of each fault, by the type of the question, in the order of
	// faults: the state of the MX answer and that of the host.
	const (
		good, unsigned = "secure usable", "insecure "
		mxFailed       = "failed "
		hostFailed     = "secure failed"
		plain, noHost  = "secure plain", "secure "
		none           = "none "
		implicitNoHost = "secure "
	)
	want := map[string][]string{
		"MX":    {mxFailed, mxFailed, mxFailed, mxFailed, good, good, unsigned, implicitNoHost, none},
		"A":     {good, good, good, good, good, good, good, good, good}, // AAAA is there
		"AAAA":  {good, good, good, good, good, good, good, good, good}, // A is there
		"CNAME": {hostFailed, hostFailed, hostFailed, hostFailed, good, good, plain, plain, plain},
		"TLSA":  {hostFailed, hostFailed, hostFailed, hostFailed, good, good, plain, plain, plain},
	}
	for qtype, outcomes := range want {
		for i, f := range faults {
			t.Run(qtype+" "+f.name, func(t *testing.T) {
				d := withFaults(t, func(r *dnstest.Resolver) { r.Fault(dnstest.Any, qtype, f.fault) })
				if got := outcome(d); got != outcomes[i] {
					t.Errorf("got %q, want %q", got, outcomes[i])
				}
			})
		}
	}
	both := []string{"secure unreachable", "secure unreachable", "secure unreachable", "secure unreachable", good, good, good, noHost, noHost}
	for i, f := range faults {
		t.Run("A and AAAA "+f.name, func(t *testing.T) {
			d := withFaults(t, func(r *dnstest.Resolver) {
				r.Fault(dnstest.Any, "A", f.fault)
				r.Fault(dnstest.Any, "AAAA", f.fault)
			})
			if got := outcome(d); got != both[i] {
				t.Errorf("got %q, want %q", got, both[i])
			}
		})
	}
}

func TestAnAddressIsSecureIfAllOfItIs(t *testing.T) {
	both := world + `
$SECURE relay.test
relay.test.    MX 10 mx.relay.test.
mx.relay.test. A 192.0.2.1
mx.relay.test. AAAA 2001:db8::1
_25._tcp.mx.relay.test. ` + match + "\n"
	for _, tt := range []struct {
		name   string
		qtype  string
		faults []dnstest.Fault
		want   policy.HostState
	}{
		{"both secure", "TXT", nil, policy.HostUsable},
		{"A insecure", "A", []dnstest.Fault{dnstest.NoAD}, policy.HostPlain},
		{"AAAA insecure", "AAAA", []dnstest.Fault{dnstest.NoAD}, policy.HostPlain},
		{"no A, insecurely", "A", []dnstest.Fault{dnstest.NoAD, dnstest.NoData}, policy.HostUsable},
		{"no AAAA, insecurely", "AAAA", []dnstest.Fault{dnstest.NoAD, dnstest.NoData}, policy.HostUsable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := new(dnstest.Resolver)
				r.SetZone(both)
				r.Fault("mx.relay.test.", tt.qtype, tt.faults...)
				d := New(r).DANE(t.Context(), hop(t, "relay.test"), policy.DANE{})
				if len(d.Hosts) != 1 || d.Hosts[0].State != tt.want {
					t.Errorf("got %+v, want %v", d.Hosts, tt.want)
				}
			})
		})
	}
}

func withFaults(t *testing.T, prepare func(*dnstest.Resolver)) policy.DANE {
	t.Helper()
	var d policy.DANE
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(chained)
		prepare(r)
		d = New(r).DANE(t.Context(), hop(t, "relay.test"), policy.DANE{})
	})
	if d.MX == policy.MXFailed && d.Detail == "" {
		t.Error("a failed MX lookup without a reason")
	}
	return d
}

func outcome(d policy.DANE) string {
	s := d.MX.String() + " "
	for _, h := range d.Hosts {
		s += h.State.String()
	}
	return s
}

func TestAnAddressWithoutItsOtherFamilyIsUnreachableOnlyIfThatFailed(t *testing.T) {
	d := withFaults(t, func(r *dnstest.Resolver) {
		r.Fault(dnstest.Any, "A", dnstest.NoData)
		r.Fault(dnstest.Any, "AAAA", dnstest.ServFail)
	})
	if got, want := outcome(d), "secure unreachable"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if life := d.Expires.Sub(d.Learned); life > unreachableLife {
		t.Errorf("life %v, want at most %v", life, unreachableLife)
	}
	if d.Detail == "" {
		t.Error("no reason")
	}
}

func TestAFailedRenewalKeepsTheFactToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(chained)
		lookup := New(r)
		h := hop(t, "relay.test")
		first := lookup.DANE(t.Context(), h, policy.DANE{})
		end := first.Expires

		for _, qtype := range []string{"MX", "TLSA"} {
			r.ClearFaults()
			r.Fault(dnstest.Any, qtype, dnstest.ServFail)
			kept := lookup.DANE(t.Context(), h, first)
			if outcome(kept) != outcome(first) || !kept.Expires.Equal(end) {
				t.Errorf("%s failed: got %q until %v, want %q until %v", qtype, outcome(kept), kept.Expires, outcome(first), end)
			}
		}

		time.Sleep(time.Until(end))
		over := lookup.DANE(t.Context(), h, first)
		if got, want := outcome(over), "secure failed"; got != want {
			t.Errorf("after its end: got %q, want %q", got, want)
		}
	})
}

// A host that is dead for good must not have every question wait that comes
// after the end of a fact.
func TestARenewalThatKnowsAsMuchAsBeforeDidNotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(world + "\n$SECURE relay.test\nrelay.test. MX 10 usable.example.com.\nrelay.test. MX 20 dead.example.com.\n")
		r.Fault("dead.example.com", dnstest.Any, dnstest.Drop)
		lookup := New(r)
		h := hop(t, "relay.test")
		first := lookup.DANE(t.Context(), h, policy.DANE{})
		time.Sleep(unreachableLife * 3 / 4)
		second := lookup.DANE(t.Context(), h, first)
		if life := time.Until(second.Expires); outcome(second) != "secure usableunreachable" || life != unreachableLife {
			t.Errorf("renewed: got %q for %v, want the same as before for %v", outcome(second), life, unreachableLife)
		}
		r.Fault("_25._tcp.usable.example.com", "TLSA", dnstest.ServFail)
		kept := lookup.DANE(t.Context(), h, second)
		if outcome(kept) != outcome(second) || !kept.Expires.Equal(second.Expires) {
			t.Errorf("another host failed: got %q until %v, want %q until %v", outcome(kept), kept.Expires, outcome(second), second.Expires)
		}
	})
}
