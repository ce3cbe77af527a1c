package dane

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

const (
	digest  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	match   = "TLSA 3 1 1 " + digest
	useless = "TLSA 1 1 1 " + digest
)

// world is what most tests look at: a signed domain whose MX hosts are of
// every kind, below signed and unsigned zones.
const world = `
$SECURE example.com signed.example
$INSECURE unsigned.example
$ORIGIN example.com.
@       SOA ns root 1 60 60 60 120
@       MX 10 usable
usable  A 192.0.2.1
_25._tcp.usable ` + match + `
_587._tcp.usable ` + useless + `
unusable AAAA 2001:db8::1
_25._tcp.unusable ` + useless + `
mixed   A 192.0.2.2
_25._tcp.mixed ` + useless + `
_25._tcp.mixed ` + match + `
plain   A 192.0.2.3
noaddress TXT "no address here"
alias   CNAME end.signed.example.
_25._tcp.alias ` + useless + `
aliased CNAME bare.signed.example.
_25._tcp.aliased ` + match + `
outside CNAME host.unsigned.example.
_25._tcp.outside ` + match + `
away    A 192.0.2.4
_25._tcp.away CNAME tlsa.signed.example.
lost    A 192.0.2.5
_25._tcp.lost CNAME tlsa.unsigned.example.
$ORIGIN signed.example.
@       SOA ns root 1 60 60 60 120
end     A 192.0.2.6
_25._tcp.end ` + match + `
bare    A 192.0.2.7
tlsa    ` + match + `
$ORIGIN unsigned.example.
@       SOA ns root 1 60 60 60 120
host    A 192.0.2.8
_25._tcp.host ` + match + `
tlsa    ` + match + `
link    CNAME usable.example.com.
_25._tcp.link ` + match + `
`

func hop(t *testing.T, key string) policy.NextHop {
	t.Helper()
	d, err := policy.ParseDomain(key)
	if err != nil {
		t.Fatal(err)
	}
	return policy.NextHop{Domain: d, Port: policy.SMTPPort}
}

// inBubble looks up a fact about a world, in a bubble of its own.
func inBubble(t *testing.T, zones string, h policy.NextHop) (policy.DANE, *dnstest.Resolver) {
	t.Helper()
	var d policy.DANE
	r := new(dnstest.Resolver)
	synctest.Test(t, func(t *testing.T) {
		r.SetZone(zones)
		d = New(r).DANE(t.Context(), h, policy.DANE{})
	})
	return d, r
}

func TestStateOfOneHost(t *testing.T) {
	for _, tt := range []struct {
		host string
		want policy.HostState
	}{
		{"usable.example.com", policy.HostUsable},
		{"unusable.example.com", policy.HostUnusable},
		{"mixed.example.com", policy.HostUsable},
		{"plain.example.com", policy.HostPlain},
		{"alias.example.com", policy.HostUsable},    // the end of the chain goes first
		{"aliased.example.com", policy.HostUsable},  // the name itself is the second candidate
		{"outside.example.com", policy.HostUsable},  // an insecure end, a secure first alias
		{"away.example.com", policy.HostUsable},     // TLSA through a secure alias
		{"lost.example.com", policy.HostPlain},      // TLSA through an insecure one
		{"host.unsigned.example", policy.HostPlain}, // insecure address: no TLSA lookup
		{"link.unsigned.example", policy.HostPlain}, // insecure alias of a secure host
		{"192.0.2.1", policy.HostPlain},
	} {
		t.Run(tt.host, func(t *testing.T) {
			zones := world + "\n$SECURE relay.test\nrelay.test. MX 10 " + tt.host + ".\n"
			d, _ := inBubble(t, zones, hop(t, "relay.test"))
			if d.MX != policy.MXSecure || len(d.Hosts) != 1 || d.Hosts[0].State != tt.want {
				t.Errorf("got MX %v, hosts %+v, want one host that is %v", d.MX, d.Hosts, tt.want)
			}
		})
	}
}

func TestNoTLSAQueryBehindAnInsecureAddress(t *testing.T) {
	zones := world + "\n$SECURE relay.test\nrelay.test. MX 10 host.unsigned.example.\n"
	_, r := inBubble(t, zones, hop(t, "relay.test"))
	if n := r.Count("TLSA"); n != 0 {
		t.Errorf("%d TLSA queries, want none", n)
	}
}

func TestMXAnswer(t *testing.T) {
	for _, tt := range []struct {
		name, zones string
		want        policy.MXState
		hosts       string
	}{
		{"secure", `$SECURE relay.test
			relay.test. MX 10 usable.example.com.`, policy.MXSecure, "usable.example.com usable"},
		{"insecure", `relay.test. MX 10 usable.example.com.`, policy.MXInsecure, ""},
		{"does not exist", `test. SOA ns.test. root.test. 1 60 60 60 60`, policy.MXNone, ""},
		{"null MX", `$SECURE relay.test
			relay.test. MX 0 .`, policy.MXNone, ""},
		{"null MX beside others", `$SECURE relay.test
			relay.test. MX 0 .
			relay.test. MX 10 plain.example.com.`, policy.MXSecure, "plain.example.com plain"},
		{"implicit MX", `$SECURE relay.test
			relay.test. A 192.0.2.9
			_25._tcp.relay.test. ` + match, policy.MXSecure, "relay.test usable"},
		{"implicit MX, insecure", `relay.test. A 192.0.2.9
			_25._tcp.relay.test. ` + match, policy.MXInsecure, ""},
		{"through an alias", `$SECURE relay.test
			relay.test. CNAME other.test.
			$SECURE other.test
			other.test. MX 10 usable.example.com.`, policy.MXSecure, "usable.example.com usable"},
		{"through an insecure alias", `relay.test. CNAME other.test.
			$SECURE other.test
			other.test. MX 10 usable.example.com.`, policy.MXInsecure, ""},
		{"a host without address does not count", `$SECURE relay.test
			relay.test. MX 10 noaddress.example.com.
			relay.test. MX 20 gone.example.com.
			relay.test. MX 30 usable.example.com.`, policy.MXSecure, "usable.example.com usable"},
		{"each host once, with its best preference", `$SECURE relay.test
			relay.test. MX 20 plain.example.com.
			relay.test. MX 30 USABLE.example.com.
			relay.test. MX 10 usable.example.com.`, policy.MXSecure, "usable.example.com usable, plain.example.com plain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _ := inBubble(t, world+"\n"+tt.zones+"\n", hop(t, "relay.test"))
			if got := describe(d.Hosts); d.MX != tt.want || got != tt.hosts {
				t.Errorf("got %v, %q, want %v, %q", d.MX, got, tt.want, tt.hosts)
			}
		})
	}
}

func describe(hosts []policy.MXHost) string {
	var list []string
	for _, h := range hosts {
		list = append(list, h.Name+" "+h.State.String())
	}
	return strings.Join(list, ", ")
}

func TestPortAndSmartHost(t *testing.T) {
	usable := hop(t, "usable.example.com")
	for _, tt := range []struct {
		name  string
		port  uint16
		smart bool
		want  string
	}{
		{"smart host, port 25", 25, true, "usable.example.com usable"},
		{"smart host, port 587", 587, true, "usable.example.com unusable"},
		{"smart host, a port without TLSA", 465, true, "usable.example.com plain"},
		{"smart host, unknown port", 0, true, "usable.example.com plain"},
		{"domain, implicit MX, port 587", 587, false, "usable.example.com unusable"},
	} {
		h := usable
		h.Port, h.SmartHost = tt.port, tt.smart
		d, r := inBubble(t, world, h)
		if n := r.Count("MX"); tt.smart && n != 0 {
			t.Errorf("%s: %d MX queries, want none", tt.name, n)
		}
		if got := describe(d.Hosts); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOnlyTheFirstHostsAreLookedAt(t *testing.T) {
	zones := world + "\n$SECURE relay.test\n"
	for i := range 100 {
		zones += fmt.Sprintf("relay.test. MX %d mx%02d.relay.test.\nmx%02d.relay.test. A 192.0.2.1\n_25._tcp.mx%02d.relay.test. %s\n", i+1, i, i, i, match)
	}
	d, r := inBubble(t, zones, hop(t, "relay.test"))
	if n := r.Count("A"); n != maxHosts {
		t.Errorf("%d A queries, want %d", n, maxHosts)
	}
	for i, h := range d.Hosts {
		want := policy.HostPlain
		if i < maxHosts {
			want = policy.HostUsable
		}
		if h.State != want {
			t.Errorf("host %d (%s): got %v, want %v", i, h.Name, h.State, want)
		}
	}
	// A domain can have thousands.
	if len(d.Hosts) != maxHosts+1 || cap(d.Hosts) > maxHosts+1 {
		t.Errorf("%d hosts with room for %d, want %d", len(d.Hosts), cap(d.Hosts), maxHosts+1)
	}
}

// withManyHosts adds a signed zone to the world in which a name has as many MX hosts
// as are looked at.
func withManyHosts(name string) string {
	zones := world + "\n$SECURE relay.test\n"
	for i := range maxHosts {
		zones += fmt.Sprintf("%s. MX 10 mx%02d.relay.test.\nmx%02d.relay.test. A 192.0.2.1\n", name, i, i)
	}
	return zones
}

func TestSlowHostsAreLookedAtAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(withManyHosts("relay.test"))
		r.Delay(dnstest.Any, "A", time.Second)
		start := time.Now()
		New(r).DANE(t.Context(), hop(t, "relay.test"), policy.DANE{})
		if took, want := time.Since(start), 3*time.Second; took != want {
			t.Errorf("%d hosts, %d at a time, took %v, want %v", maxHosts, atOnce, took, want)
		}
	})
}

// With a wildcard, one domain has as many next-hops as it likes.
func TestSlowHostsOfManyNextHopsLeaveRoomForOtherQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(dnstest.Resolver)
		r.SetZone(withManyHosts("*.relay.test"))
		r.Fault(dnstest.Any, "A", dnstest.Drop)
		r.Fault(dnstest.Any, "AAAA", dnstest.Drop)
		resolver, began := New(r), time.Now()
		var lookups sync.WaitGroup
		for i := range 300 {
			lookups.Go(func() { resolver.DANE(t.Context(), hop(t, fmt.Sprintf("d%d.relay.test", i)), policy.DANE{}) })
		}
		time.Sleep(time.Second)
		start := time.Now()
		if _, err := r.Query(t.Context(), "noaddress.example.com", dns.TypeTXT); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("another question took %v", took)
		}
		lookups.Wait()
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("the last of the lookups took %v", took)
		}
	})
}

func TestLifeIsTheSmallestTTL(t *testing.T) {
	for _, tt := range []struct {
		name, zones string
		want        time.Duration
	}{
		{"everything an hour or more", `relay.test. 7200 MX 10 mx.relay.test.
			mx.relay.test. 86400 A 192.0.2.1
			mx.relay.test. 86400 AAAA 2001:db8::1
			_25._tcp.mx.relay.test. 7200 ` + match, time.Hour},
		{"the MX record", `relay.test. 30 MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1
			mx.relay.test. AAAA 2001:db8::1
			_25._tcp.mx.relay.test. ` + match, 30 * time.Second},
		{"the address", `relay.test. MX 10 mx.relay.test.
			mx.relay.test. 20 A 192.0.2.1
			mx.relay.test. AAAA 2001:db8::1
			_25._tcp.mx.relay.test. ` + match, 20 * time.Second},
		{"the absence of an address", `relay.test. SOA ns.test. root.test. 1 60 60 60 25
			relay.test. MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1
			_25._tcp.mx.relay.test. ` + match, 25 * time.Second},
		{"the TLSA record", `relay.test. MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1
			mx.relay.test. AAAA 2001:db8::1
			_25._tcp.mx.relay.test. 15 ` + match, 15 * time.Second},
		{"a TTL of 0", `relay.test. 0 MX 10 mx.relay.test.
			mx.relay.test. A 192.0.2.1`, 0},
	} {
		d, _ := inBubble(t, "$SECURE relay.test\n"+tt.zones+"\n", hop(t, "relay.test"))
		if got := d.Expires.Sub(d.Learned); got != tt.want {
			t.Errorf("%s: life %v, want %v", tt.name, got, tt.want)
		}
	}
}
