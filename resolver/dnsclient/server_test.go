package dnsclient

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseServer(t *testing.T) {
	accept := map[string]string{
		"192.0.2.1":            "192.0.2.1:53",
		"192.0.2.1:5353":       "192.0.2.1:5353",
		"2001:db8::1":          "[2001:db8::1]:53",
		"[2001:db8::1]":        "[2001:db8::1]:53",
		"[2001:db8::1]:5353":   "[2001:db8::1]:5353",
		"fe80::1%eth0":         "[fe80::1%eth0]:53",
		"[fe80::1%eth0]:5353":  "[fe80::1%eth0]:5353",
		"::ffff:127.0.0.1":     "127.0.0.1:53",
		"[::ffff:192.0.2.1]:5": "192.0.2.1:5",
		"127.0.0.1:65535":      "127.0.0.1:65535",
	}
	for s, want := range accept {
		if got, err := ParseServer(s); err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", s, got, err, want)
		}
	}
	reject := map[string]string{
		"":                "nothing",
		"dns.example":     "a name",
		"dns.example:53":  "a name with a port",
		"192.0.2.1:":      "an empty port",
		"192.0.2.1:0":     "port 0",
		"192.0.2.1:65536": "a port too large",
		"192.0.2.1:dns":   "a port by name",
		"192.0.2":         "half an address",
		"[[::1]]":         "two brackets",
		"[]":              "empty brackets",
		"[192.0.2.1":      "half a bracket",
		"224.0.0.251":     "multicast",
		"0.0.0.0":         "unspecified",
		"[::]:53":         "unspecified",
		" 192.0.2.1":      "a blank",
	}
	for s, reason := range reject {
		if got, err := ParseServer(s); !errors.Is(err, ErrServer) {
			t.Errorf("%q (%s): got %v, %v", s, reason, got, err)
		}
	}
}

func TestWhoseADCounts(t *testing.T) {
	tests := []struct {
		addr    string
		blessed trust
		want    bool
	}{
		{"127.0.0.1:53", untrusted, true},
		{"127.9.9.9:5353", untrusted, true},
		{"[::1]:53", untrusted, true},
		{"192.0.2.1:53", untrusted, false},
		{"10.0.0.1:53", untrusted, false},
		{"[fe80::1%lo]:53", untrusted, false},
		{"192.0.2.1:53", trusted, true},
	}
	for _, tt := range tests {
		if got := newEndpoint(netip.MustParseAddrPort(tt.addr), tt.blessed).trustAD; got != tt.want {
			t.Errorf("%s, blessed %d: got %v", tt.addr, tt.blessed, got)
		}
	}
}

func TestOrderOfServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var endpoints []endpoint
		for _, a := range []string{"192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"} {
			endpoints = append(endpoints, newEndpoint(netip.MustParseAddrPort(a), untrusted))
		}
		p := newPool(endpoints, nil)
		expect := func(when, want string) {
			t.Helper()
			got := ""
			for _, s := range p.order() {
				a := s.addr.Addr().As4()
				got += string('0' + a[3])
			}
			if got != want {
				t.Errorf("%s: got %s, want %s", when, got, want)
			}
		}
		expect("at first", "123")
		p.answered(p.servers[1])
		expect("when the second answered", "231")
		expect("and again", "231")
		p.answered(p.servers[2])
		expect("when the third answered", "312")
		time.Sleep(homing - 1)
		expect("just before it is time to look home", "312")
		time.Sleep(time.Nanosecond)
		expect("for the one query that looks home", "123")
		expect("for all others", "312")
		time.Sleep(homing)
		expect("the next time", "123")
		p.answered(p.servers[0])
		expect("when the first answered", "123")
		p.answered(p.servers[1])
		expect("when it failed once more", "231")
		p.answered(&server{})
		expect("when one that is gone answered", "231")
		endpoints[0].trustAD = true
		p = newPool(endpoints, nil)
		p.answered(p.servers[1])
		expect("when one answered whose AD does not count", "123")
	})
}
