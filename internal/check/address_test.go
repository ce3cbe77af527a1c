package check_test

import (
	"strings"
	"testing"
)

// Addresses that are the same, and those that are not.
func TestWhereTheMapIsAsked(t *testing.T) {
	ca := newAuthority()
	for _, tt := range []struct {
		listen, asked string
		same          bool
	}{
		{"127.0.0.1:8461", "inet:127.0.0.1:8461", true},
		{"127.0.0.1:8461", "inet:localhost:8461", true},
		{"127.0.0.1:8461", "inet:LOCALHOST:8461", true},
		{"127.0.0.1:8461", "inet:127.0.0.1:8462", false},
		{"127.0.0.1:8461", "inet:127.0.0.2:8461", false},
		{"127.0.0.1:8461", "inet:[::1]:8461", false},
		{"127.0.0.1:8461", "inet:policy.example.com:8461", false},
		{"0.0.0.0:8461", "inet:127.0.0.1:8461", true},
		{"0.0.0.0:8461", "inet:127.0.0.2:8461", true},
		{"0.0.0.0:8461", "inet:localhost:8461", true},
		{"0.0.0.0:8461", "inet:192.0.2.1:8461", true},
		{"0.0.0.0:8461", "inet:policy.example.com:8461", true},
		{"0.0.0.0:8461", "inet:[::1]:8461", false},
		{"0.0.0.0:8461", "inet:ip6-localhost:8461", false},
		{"0.0.0.0:8461", "inet:127.0.0.1:8462", false},
		{":8461", "inet:127.0.0.1:8461", true},
		{":8461", "inet:[::1]:8461", true},
		{"[::]:8461", "inet:127.0.0.1:8461", true},
		{"[::]:8461", "inet:[::1]:8461", true},
		{"[::]:8461", "inet:localhost:8461", true},
		{"[::1]:8461", "inet:[::1]:8461", true},
		{"[0:0:0:0:0:0:0:1]:8461", "inet:[::1]:8461", true},
		{"[::1]:8461", "inet:ip6-localhost:8461", true},
		{"[::1]:8461", "inet:ip6-loopback:8461", true},
		{"[::1]:8461", "inet:localhost:8461", true},
		{"[::1]:8461", "inet:127.0.0.1:8461", false},
		{"localhost:8461", "inet:127.0.0.1:8461", true},
		{"localhost:8461", "inet:localhost:8461", true},
		{"localhost:8461", "inet:[::1]:8461", false}, // Go listens on the IPv4 address.
		{"ip6-localhost:8461", "inet:[::1]:8461", true},
		{"ip6-localhost:8461", "inet:127.0.0.1:8461", false},
		{"relay.example.com:8461", "inet:Relay.example.com:8461", true},
		{"relay.example.com:8461", "inet:other.example.com:8461", false},
		{"unix:/run/x", "unix:/run/x", true},
		{"unix:/var/spool/postfix/private/x", "unix:private/x", true},
		{"unix:/var/spool/postfix/private/x", "unix:/private/x", true},
		{"unix:/var/spool/postfix/private/xx", "unix:private/x", false},
		{"unix:/var/spool/postfix/private-x", "unix:x", false},
		{"unix:/run/x", "inet:127.0.0.1:8461", false},
		{"127.0.0.1:8461", "unix:/run/x", false},
	} {
		w := world{ca: ca, zones: announced + oneMX, web: file(enforce), listen: []string{tt.listen},
			postconf: settings(map[string]string{"smtp_tls_policy_maps": "socketmap:" + tt.asked + ":policy"})}
		text := w.run(t, "example.com").Text()
		if same := !strings.Contains(text, "the daemon is to listen on"); same != tt.same {
			t.Errorf("asked at %s, listening on %s: the same is %v, want %v", tt.asked, tt.listen, same, tt.same)
		}
	}
}

// A map to paste names an address that Postfix can connect to.
func TestTheMapToAdd(t *testing.T) {
	ca := newAuthority()
	for listen, want := range map[string]string{
		"":                "socketmap:inet:127.0.0.1:8461:policy",
		"192.0.2.1:10":    "socketmap:inet:192.0.2.1:10:policy",
		"0.0.0.0:10":      "socketmap:inet:127.0.0.1:10:policy",
		":10":             "socketmap:inet:127.0.0.1:10:policy",
		"[::]:10":         "socketmap:inet:[::1]:10:policy",
		"localhost:10":    "socketmap:inet:127.0.0.1:10:policy",
		"[::1]:10":        "socketmap:inet:[::1]:10:policy",
		"unix:/run/x y:z": "socketmap:unix:/run/x y:z:policy",
		"unix:/run/x":     "socketmap:unix:/run/x:policy",
		"unix:/var/spool/postfix/tlspolicyd/policy.sock": "socketmap:unix:tlspolicyd/policy.sock:policy",
	} {
		w := world{ca: ca, zones: oneMX, postconf: settings(map[string]string{"smtp_tls_policy_maps": ""})}
		if listen != "" {
			w.listen = []string{listen}
		}
		text := w.run(t, "example.com").Text()
		if !strings.Contains(text, "Postfix does not ask the daemon; add "+want+"\n") {
			t.Errorf("%q: it is not said to add %q in\n%s", listen, want, text)
		}
		if !strings.Contains(text, "smtp_tls_policy_maps = texthash:/etc/postfix/tls_exceptions, "+want+"\n") {
			t.Errorf("%q: %q is not in the setting to paste:\n%s", listen, want, text)
		}
	}
}

// A running daemon knows better than its configuration where it listens: systemd
// holds its sockets.
func TestWhereTheDaemonListens(t *testing.T) {
	w := world{ca: newAuthority(), zones: announced + oneMX, web: file(enforce), listen: []string{"127.0.0.1:8461"},
		daemon:   memory{listen: []string{"unix:/var/spool/postfix/tlspolicyd/policy.sock"}},
		postconf: settings(map[string]string{"smtp_tls_policy_maps": "socketmap:unix:tlspolicyd/policy.sock:policy"})}
	if text := w.run(t, "example.com").Text(); strings.Contains(text, "listen") {
		t.Errorf("got\n%s", text)
	}
}
