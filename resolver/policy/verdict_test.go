package policy

import (
	"fmt"
	"testing"
	"time"
)

var (
	testNow    = time.Now()
	testDomain = Domain{"example.com"}
)

func stsOf(mode Mode) *STS {
	if mode == 0 {
		return &STS{Record: RecordAbsent}
	}
	return &STS{Policy: &STSPolicy{Mode: mode, MaxAge: time.Hour, MX: []MXPattern{{"mx.example.com"}}}, Fetched: testNow}
}

func daneOf(mx MXState, hosts ...MXHost) *DANE {
	return &DANE{MX: mx, Hosts: hosts, Learned: testNow, Expires: testNow.Add(time.Minute)}
}

func host(preference uint16, state HostState) MXHost {
	return MXHost{Name: fmt.Sprintf("mx%d.example.com", preference), Preference: preference, State: state}
}

func TestDecideTable(t *testing.T) {
	plain, usable, unusable, failed, unreachable := HostPlain, HostUsable, HostUnusable, HostFailed, HostUnreachable
	hosts := func(states ...HostState) *DANE {
		d := daneOf(MXSecure)
		for i, s := range states {
			d.Hosts = append(d.Hosts, host(uint16(10*i), s))
		}
		return d
	}
	samePreference := daneOf(MXSecure, host(10, usable), host(10, plain))
	expired := daneOf(MXInsecure)
	expired.Expires = testNow
	for _, tt := range []struct {
		name               string
		dane               *DANE
		enforce, otherwise Kind // otherwise: on the -dane maps
		reason             string
	}{
		{"MX insecure", daneOf(MXInsecure), Secure, NotFound, rowInsecure.reason},
		{"MX insecure, whatever the hosts say", daneOf(MXInsecure, host(10, usable)), Secure, NotFound, rowInsecure.reason},
		{"NXDOMAIN or null MX", daneOf(MXNone), Secure, NotFound, rowNone.reason},
		{"no host has an address", daneOf(MXSecure), Secure, NotFound, rowNone.reason},
		{"DANE is off", daneOf(MXOff), Secure, NotFound, rowOff.reason},
		{"every host plain", hosts(plain, plain), Secure, NotFound, rowPlain.reason},
		{"plain and unreachable", hosts(plain, unreachable), Secure, NotFound, rowPlain.reason},
		{"MX failed", daneOf(MXFailed), Temp, DANEWhereFound, rowMXFailed.reason},
		{"nothing known", &DANE{}, Temp, DANEWhereFound, "the DANE lookup did not end in time, so DANE cannot be ruled out"},
		{"expired", expired, Temp, DANEWhereFound, "the DANE lookup did not end in time, so DANE cannot be ruled out"},
		{"failed only", hosts(failed), Temp, DANEWhereFound, rowHostFailed.reason},
		{"failed and plain", hosts(plain, failed), Temp, DANEWhereFound, rowHostFailed.reason},
		{"failed and unusable", hosts(unusable, failed), Temp, DANEWhereFound, rowHostFailed.reason},
		{"unreachable only", hosts(unreachable, unreachable), Temp, DANEWhereFound, rowHostFailed.reason},
		{"unusable only", hosts(unusable), Secure, DANEWhereFound, rowUnusable.reason},
		{"unusable and plain", hosts(plain, unusable), Secure, DANEWhereFound, rowUnusable.reason},
		{"all usable", hosts(usable, usable), DANEOnly, DANEOnly, rowUsable.reason},
		{"usable and unreachable", hosts(unreachable, usable), DANEOnly, DANEOnly, rowUsable.reason},
		{"usable and failed", hosts(usable, failed), DANEOnly, DANEWhereFound, rowSomeFailed.reason},
		{"failed first, then usable", hosts(failed, usable), DANEOnly, DANEWhereFound, rowSomeFailed.reason},
		{"usable, failed and plain", hosts(plain, usable, failed), DANEOnly, DANEWhereFound, rowSomeFailed.reason},
		{"usable first, then plain", hosts(usable, plain), DANEOnly, DANEWhereFound, rowBestUsable.reason},
		{"unreachable, then usable, then plain", hosts(unreachable, usable, plain), DANEOnly, DANEWhereFound, rowBestUsable.reason},
		{"plain first, then usable", hosts(plain, usable), Secure, DANEWhereFound, rowPartial.reason},
		{"usable and plain of one preference", samePreference, Secure, DANEWhereFound, rowPartial.reason},
		{"unusable first, then usable", hosts(unusable, usable), Secure, DANEWhereFound, rowPartial.reason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Decide(testNow, testDomain, stsOf(ModeEnforce), tt.dane, ClassSTS)
			if v.Kind != tt.enforce || v.Reason != tt.reason {
				t.Errorf("enforce: got %v, %q, want %v, %q", v.Kind, v.Reason, tt.enforce, tt.reason)
			}
			v = Decide(testNow, testDomain, stsOf(ModeEnforce), tt.dane, ClassSTSOnly)
			if v.Kind != Secure {
				t.Errorf("enforce, DANE not looked at: got %v, want secure", v.Kind)
			}
			for _, mode := range []Mode{0, ModeNone, ModeTesting} {
				if v := Decide(testNow, testDomain, stsOf(mode), tt.dane, ClassSTS); v.Kind != NotFound {
					t.Errorf("%v: got %v, want notfound", mode, v.Kind)
				}
				if v := Decide(testNow, testDomain, stsOf(mode), tt.dane, ClassDANE); v.Kind != tt.otherwise {
					t.Errorf("%v, -dane map: got %v, want %v", mode, v.Kind, tt.otherwise)
				}
			}
		})
	}
}

func TestDecideSaysWhyThereIsNothingToSay(t *testing.T) {
	over := stsOf(ModeEnforce)
	over.Fetched = testNow.Add(-2 * time.Hour)
	lost := &STS{Record: RecordAbsent, Lost: true}
	known := stsOf(ModeEnforce)
	known.Lost = true
	for _, tt := range []struct {
		name   string
		sts    *STS
		want   Kind
		reason string
	}{
		{"absent", stsOf(0), NotFound, reasonAbsent},
		{"nobody has looked", &STS{}, NotFound, reasonAbsent},
		{"none", stsOf(ModeNone), NotFound, reasonNone},
		{"testing", stsOf(ModeTesting), NotFound, reasonTesting},
		{"expired", over, NotFound, reasonExpired},
		{"enforce", stsOf(ModeEnforce), Secure, reasonEnforce},
		{"lost", lost, Temp, reasonLost},
		{"lost, but the network gave a policy", known, Secure, reasonEnforce},
	} {
		v := Decide(testNow, testDomain, tt.sts, &DANE{}, ClassSTSOnly)
		if v.Kind != tt.want || v.Reason != tt.reason {
			t.Errorf("%s: got %v, %q, want %v, %q", tt.name, v.Kind, v.Reason, tt.want, tt.reason)
		}
	}
}

// TestDecideInvariants enumerates every combination of MX state, up to three
// hosts in five states with two preferences, STS state and class.
func TestDecideInvariants(t *testing.T) {
	n := 0
	forEveryDANE(func(d *DANE) {
		for _, mode := range []Mode{0, ModeNone, ModeTesting, ModeEnforce} {
			for _, class := range []Class{ClassSTSOnly, ClassSTS, ClassDANE} {
				n++
				checkInvariants(t, d, mode, class)
			}
		}
	})
	if want := 5 * (1 + 10 + 100 + 1000) * 12; n != want {
		t.Errorf("%d combinations, want %d", n, want)
	}
}

func forEveryDANE(f func(*DANE)) {
	for mx := MXFailed; mx <= MXSecure; mx++ {
		for count := range 4 {
			forEveryHosts(count, nil, func(hosts []MXHost) { f(daneOf(mx, hosts...)) })
		}
	}
}

func forEveryHosts(count int, hosts []MXHost, f func([]MXHost)) {
	if count == 0 {
		f(hosts)
		return
	}
	for _, preference := range []uint16{10, 20} {
		for state := HostFailed; state <= HostUnreachable; state++ {
			forEveryHosts(count-1, append(hosts[:len(hosts):len(hosts)], host(preference, state)), f)
		}
	}
}

func checkInvariants(t *testing.T, d *DANE, mode Mode, class Class) {
	t.Helper()
	v := Decide(testNow, testDomain, stsOf(mode), d, class)
	enforce := mode == ModeEnforce
	fail := func(rule string) {
		t.Errorf("%s: got %v for MX %v, hosts %v, mode %v, class %d", rule, v.Kind, d.MX, d.Hosts, mode, class)
	}
	if enforce && (v.Kind == DANEWhereFound || v.Kind == NotFound) {
		fail("an enforce policy is never answered with less")
	}
	if !enforce && v.Kind == Temp {
		fail("only a domain with an enforce policy is deferred by us")
	}
	if !enforce && v.Kind == Secure {
		fail("secure needs an enforce policy")
	}
	if class != ClassDANE && !enforce && v.Kind != NotFound {
		fail("without an enforce policy there is nothing to say")
	}
	if class == ClassSTSOnly && (v.Kind == DANEOnly || v.Kind == DANEWhereFound || v.Kind == Temp) {
		fail("a map that does not look at DANE does not answer for it")
	}
	if (v.Kind == DANEOnly || v.Kind == DANEWhereFound) && d.MX == MXInsecure {
		fail("DANE does not bind over an insecure MX answer")
	}
	if v.Kind == DANEOnly && !daneOnlyIsRight(d) {
		fail("dane-only only where a usable host can be reached first, or an unresolved one leaves no better answer")
	}
	if v.Kind == Secure && class != ClassSTSOnly && everyHostUsable(d) {
		fail("secure never where every host is usable")
	}
	if (v.Kind == Secure) != (v.Policy != nil) {
		fail("a policy goes with secure, and only with it")
	}
	if v.Reason == "" {
		fail("every verdict has a reason")
	}
}

// daneOnlyIsRight looks at the hosts by itself, in another way than the code
// under test: every reachable host of the best preference is usable, or some
// host is usable and another one failed.
func daneOnlyIsRight(d *DANE) bool {
	if d.MX != MXSecure {
		return false
	}
	states := map[HostState]int{}
	best := map[uint16]map[HostState]int{10: {}, 20: {}}
	for _, h := range d.Hosts {
		states[h.State]++
		best[h.Preference][h.State]++
	}
	if states[HostUsable] > 0 && states[HostFailed] > 0 {
		return true
	}
	for _, preference := range []uint16{10, 20} {
		n := best[preference]
		reachable := n[HostPlain] + n[HostUsable] + n[HostUnusable] + n[HostFailed]
		if reachable > 0 {
			return n[HostUsable] == reachable
		}
	}
	return false
}

func everyHostUsable(d *DANE) bool {
	usable := 0
	for _, h := range d.Hosts {
		switch h.State {
		case HostUsable:
			usable++
		case HostUnreachable:
		default:
			return false
		}
	}
	return d.MX == MXSecure && usable > 0
}

func TestNeedsDANE(t *testing.T) {
	expired := stsOf(ModeEnforce)
	expired.Fetched = testNow.Add(-2 * time.Hour)
	for _, tt := range []struct {
		name  string
		sts   *STS
		class Class
		want  bool
	}{
		{"enforce", stsOf(ModeEnforce), ClassSTS, true},
		{"enforce, STS only", stsOf(ModeEnforce), ClassSTSOnly, false},
		{"expired", expired, ClassSTS, false},
		{"testing", stsOf(ModeTesting), ClassSTS, false},
		{"testing, -dane map", stsOf(ModeTesting), ClassDANE, true},
		{"absent, -dane map", stsOf(0), ClassDANE, true},
	} {
		if got := NeedsDANE(testNow, tt.sts, tt.class); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
