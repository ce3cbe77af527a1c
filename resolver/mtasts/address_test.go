package mtasts

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
)

func TestAllowedAddresses(t *testing.T) {
	for _, s := range []string{
		"1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
		"128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255",
		"192.0.1.0", "192.0.3.0", "192.31.196.1", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0",
		"198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255",
		"::ffff:8.8.8.8", "64:ff9b::808:808",
		"2001:200::1", "2001:db7:ffff::1", "2001:db9::1", "2003::1", "2600::1", "2620:4f:8000::1", "2a00::1",
		"3ffe:ffff::1", "3fff:1000::1",
	} {
		if why := (addressFilter{}).refuse(netip.MustParseAddr(s)); why != "" {
			t.Errorf("%s is refused: %s", s, why)
		}
	}
}

func TestRefusedAddresses(t *testing.T) {
	tests := []struct{ addr, why string }{
		{"0.0.0.0", "RFC 791"}, {"0.255.255.255", "RFC 791"},
		{"10.0.0.0", "RFC 1918"}, {"10.255.255.255", "RFC 1918"},
		{"100.64.0.0", "RFC 6598"}, {"100.127.255.255", "RFC 6598"},
		{"127.0.0.1", "loopback"}, {"127.255.255.255", "loopback"},
		{"169.254.169.254", "link local"},
		{"172.16.0.0", "RFC 1918"}, {"172.31.255.255", "RFC 1918"},
		{"192.0.0.1", "IETF"}, {"192.0.0.9", "IETF"}, {"192.0.2.1", "documentation"},
		{"192.88.99.1", "6to4"}, {"192.168.1.1", "RFC 1918"},
		{"198.18.0.0", "benchmarking"}, {"198.19.255.255", "benchmarking"},
		{"198.51.100.1", "documentation"}, {"203.0.113.1", "documentation"},
		{"224.0.0.1", "multicast"}, {"239.255.255.255", "multicast"},
		{"240.0.0.0", "reserved"}, {"255.255.255.255", "reserved"},
		{"::ffff:127.0.0.1", "loopback"}, {"::ffff:10.0.0.1", "RFC 1918"},
		{"::", "not global unicast"}, {"::1", "not global unicast"}, {"::127.0.0.1", "not global unicast"},
		{"100::1", "not global unicast"}, {"100:0:0:1::1", "not global unicast"}, {"5f00::1", "not global unicast"},
		{"fc00::1", "not global unicast"}, {"fd00::1", "not global unicast"},
		{"fe80::1", "not global unicast"}, {"fe80::1%lo", "not global unicast"}, {"ff02::1", "not global unicast"},
		{"1fff::1", "not global unicast"}, {"4000::1", "not global unicast"},
		{"64:ff9b::7f00:1", "NAT64 (RFC 6052) of loopback"}, {"64:ff9b::a00:1", "NAT64 (RFC 6052) of private use"},
		{"64:ff9b:1::808:808", "not global unicast"}, {"64:ff9b::1:0:0", "not global unicast"},
		{"2001::1", "Teredo"}, {"2001:1::1", "IETF"}, {"2001:20::1", "IETF"}, {"2001:1ff:ffff::1", "IETF"},
		{"2001:db8::1", "documentation"}, {"2002:7f00:1::1", "6to4"}, {"2002:808:808::1", "6to4"},
		{"3fff::1", "documentation"}, {"3fff:fff:ffff::1", "documentation"},
	}
	for _, tt := range tests {
		if why := (addressFilter{}).refuse(netip.MustParseAddr(tt.addr)); !strings.Contains(why, tt.why) {
			t.Errorf("%s: got %q, want %q in it", tt.addr, why, tt.why)
		}
	}
	if why := (addressFilter{}).refuse(netip.Addr{}); why == "" {
		t.Errorf("no address at all is allowed")
	}
}

func TestAllowNetworksAdd(t *testing.T) {
	f := addressFilter{allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	for addr, allowed := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00::1": true, "8.8.8.8": true, "2600::1": true,
		"11.0.0.1": true, "192.168.1.1": false, "fc00::1": false, "127.0.0.1": false,
		"64:ff9b::a01:203": false, // not an address of that network: NAT64 is for global ones
	} {
		if got := f.refuse(netip.MustParseAddr(addr)) == ""; got != allowed {
			t.Errorf("%s: allowed is %v, want %v", addr, got, allowed)
		}
	}
}

func TestAddressesOfAHost(t *testing.T) {
	const many = "h A 198.41.0.1\nh A 198.41.0.2\nh A 198.41.0.3\nh A 198.41.0.4\nh A 198.41.0.5\nh A 198.41.0.6\n" +
		"h AAAA 2600::1\nh AAAA 2600::2\nh AAAA 2600::3\nh AAAA 2600::4\nh AAAA 2600::5\nh AAAA 2600::6\n"
	tests := []struct {
		name   string
		zone   string
		fail   string // the type whose lookup fails
		six    int    // how many addresses, by family
		four   int
		result string
		reason string
	}{
		{"one", "h A 198.41.0.1", "", 0, 1, "", ""},
		{"both families", "h A 198.41.0.1\nh AAAA 2600::1", "", 1, 1, "", ""},
		{"too many", many, "", 4, 4, "", ""},
		{"one family has many", strings.ReplaceAll(many, "2600::", "2001:db8::"), "", 0, 6, "", ""},
		{"an alias", "h CNAME other.example.\nother.example. A 198.41.0.1", "", 0, 1, "", ""},
		{"some are refused", "h A 10.0.0.1\nh A 198.41.0.1\nh AAAA ::1", "", 0, 1, "", ""},
		{"AAAA fails", "h A 198.41.0.1", "AAAA", 0, 1, "", ""},
		{"A fails", "h AAAA 2600::1", "A", 1, 0, "", ""},
		{"all are refused", "h A 10.0.0.1\nh AAAA fe80::1", "", 0, 0, "address", "no address of h is allowed: fe80::1 is not global unicast (RFC 4291), 10.0.0.1 is private use (RFC 1918)"},
		{"refused, and the other fails", "h A 127.0.0.1", "AAAA", 0, 0, "address", "127.0.0.1 is loopback (RFC 1122)"},
		{"none", "h TXT x", "", 0, 0, "dns", "h has no address"},
		{"no such name", "other TXT x", "", 0, 0, "dns", "h has no address"},
		{"AAAA fails, no A", "h TXT x", "AAAA", 0, 0, "dns", "looking up the IPv6 address of h"},
		{"both fail", "h TXT x", dnstest.Any, 0, 0, "dns", "looking up the address of h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			zones := &dnstest.Resolver{}
			zones.SetZone(tt.zone + "\n")
			if tt.fail != "" {
				zones.Fault("h", tt.fail, dnstest.ServFail)
			}
			f := &fetcher{dns: zones}
			got, failed := f.addresses(t.Context(), "h")
			four := 0
			for _, a := range got {
				if a.Is4() {
					four++
				}
			}
			if four != tt.four || len(got)-four != tt.six {
				t.Errorf("got %v, want %d of IPv6 and %d of IPv4", got, tt.six, tt.four)
			}
			if tt.result == "" {
				if failed != nil {
					t.Errorf("got %v", failed)
				}
				return
			}
			if failed == nil || failed.result != tt.result {
				t.Fatalf("got %v, want %s", failed, tt.result)
			}
			checkReason(t, failed.reason, tt.reason)
		})
	}
}

func TestSlowFamilyIsNotWaitedFor(t *testing.T) {
	tests := []struct {
		name  string
		zone  string
		slow  string
		delay time.Duration
		want  []netip.Addr
		took  time.Duration
	}{
		{"no answer for AAAA", "h A 198.41.0.1", "AAAA", time.Minute, addrs("198.41.0.1"), resolutionDelay},
		{"no answer for A", "h AAAA 2600::1", "A", time.Minute, addrs("2600::1"), resolutionDelay},
		{"AAAA within the delay", "h A 198.41.0.1\nh AAAA 2600::1", "AAAA", 200 * time.Millisecond, addrs("2600::1", "198.41.0.1"), 200 * time.Millisecond},
		{"all that is there is refused", "h A 10.0.0.1\nh AAAA 2600::1", "AAAA", time.Second, addrs("2600::1"), time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				zones := &dnstest.Resolver{Timeout: time.Minute}
				zones.SetZone(tt.zone + "\n")
				zones.Delay("h", tt.slow, tt.delay)
				start := time.Now()
				got, failed := (&fetcher{dns: zones}).addresses(t.Context(), "h")
				if failed != nil || !slices.Equal(got, tt.want) {
					t.Errorf("got %v and %v, want %v", got, failed, tt.want)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func TestAddressesAreTriedByTurns(t *testing.T) {
	got, refused := addressFilter{}.split(
		addrs("2600::1", "2600::2", "2600::1"), addrs("198.41.0.1", "10.0.0.1", "198.41.0.3", "198.41.0.4", "198.41.0.3"))
	want := addrs("2600::1", "198.41.0.1", "2600::2", "198.41.0.3", "198.41.0.4")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(refused) != 1 || refused[0] != "10.0.0.1 is private use (RFC 1918)" {
		t.Errorf("got %q", refused)
	}
}

// TestTheAddressCheckedIsTheAddressDialled rebinds the host's name to loopback
// after the first answer.
func TestTheAddressCheckedIsTheAddressDialled(t *testing.T) {
	h := startHost(t, newAuthority(t, "Test Root"), nil, answer)
	h.fetcher.dns = &rebinding{answers: []string{
		"mta-sts.example.com. A 198.41.0.9", "mta-sts.example.com. A 127.0.0.1",
	}}
	checkFetch(t, h, "ok", "")
	checkFetch(t, h, "address", "127.0.0.1 is loopback")
	if got := h.network.addresses(); !slices.Equal(got, []string{"198.41.0.9:443"}) {
		t.Errorf("dialled %q", got)
	}
}

func TestRefusedAddressIsNotDialled(t *testing.T) {
	h := startHost(t, newAuthority(t, "Test Root"), nil, answer)
	h.zones.SetZone("mta-sts.example.com. A 127.0.0.1\nmta-sts.example.com. AAAA fd00::1\n")
	checkFetch(t, h, "address", "no address of mta-sts.example.com is allowed: fd00::1 is not global unicast (RFC 4291), 127.0.0.1 is loopback")
	h.fetcher.filter.allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	checkFetch(t, h, "ok", "")
	if got := h.network.addresses(); !slices.Equal(got, []string{"127.0.0.1:443"}) {
		t.Errorf("dialled %q", got)
	}
}

func TestAllowNetworksMustBeNetworks(t *testing.T) {
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("::ffff:10.0.0.0/104")} {
		if _, err := New(Options{DNS: silent{}, AllowNetworks: []netip.Prefix{p}}); err == nil {
			t.Errorf("%v is taken", p)
		}
	}
}

// rebinding is a DNS that gives another address every time it is asked.
type rebinding struct {
	answers []string
}

func (r *rebinding) Query(_ context.Context, name string, qtype uint16) (dnsclient.Answer, error) {
	a := dnsclient.Answer{Name: name, Exists: true}
	if qtype != dns.TypeA || len(r.answers) == 0 {
		return a, nil
	}
	rr, err := dns.NewRR(r.answers[0])
	r.answers = r.answers[1:]
	a.Records = []dns.RR{rr}
	return a, err
}
