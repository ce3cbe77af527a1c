package dnsclient_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/dnsclient"
)

// What two servers say at a first test, and at a second.
func TestValidatingIsFalseOnlyIfNoneValidatesAndSomeCannot(t *testing.T) {
	for _, tt := range []struct {
		what           string
		before, after  [2]script
		wantBefore     bool
		wantAfter      bool
		gauge          string
		offInTheEnd    bool
		silentInTheEnd bool
	}{
		{"both pass", [2]script{passes, passes}, [2]script{passes, passes}, true, true, "1", false, false},
		{"one fails", [2]script{passes, fails}, [2]script{fails, passes}, true, true, "1", false, false},
		{"both fail", [2]script{fails, fails}, [2]script{fails, fails}, false, false, "0", true, false},
		{"one fails, the other is silent", [2]script{fails, silent}, [2]script{silent, fails}, false, false, "0", true, false},
		{"all silent", [2]script{silent, nil}, [2]script{nil, silent}, true, true, "0", false, true},
		{"the one that passed is silent, the other fails", [2]script{passes, fails}, [2]script{silent, fails}, true, true, "0", false, false},
		{"the one that passed fails, the other is silent", [2]script{passes, silent}, [2]script{fails, silent}, true, false, "0", true, false},
		{"those that failed are silent", [2]script{fails, fails}, [2]script{silent, silent}, false, true, "0", true, true},
		{"one comes back", [2]script{fails, silent}, [2]script{fails, passes}, false, true, "1", false, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, m := new(network), new(counted)
				log, lines := observed()
				c := newClient(t, n, dnsclient.Options{Servers: []string{first, second}, Log: log, Metrics: m})
				n.set(first, tt.before[0])
				n.set(second, tt.before[1])
				run(t, c)
				if got := c.Validating(t.Context()); got != tt.wantBefore {
					t.Errorf("at first: %v, want %v", got, tt.wantBefore)
				}
				n.set(first, tt.after[0])
				n.set(second, tt.after[1])
				time.Sleep(11 * time.Minute)
				if got := c.Validating(t.Context()); got != tt.wantAfter {
					t.Errorf("then: %v, want %v", got, tt.wantAfter)
				}
				if got, want := m.last(), "validating "+tt.gauge; got != want {
					t.Errorf("gauge: got %q, want %q", got, want)
				}
				checkSaid(t, lines(), "DANE is off", "DANE is on", tt.offInTheEnd)
				checkSaid(t, lines(), "no DNS server answers", "a DNS server answers", tt.silentInTheEnd)
			})
		})
	}
}

// checkSaid checks that the log says by turns that a trouble began and that it
// ended, and how it stands in the end.
func checkSaid(t *testing.T, lines []string, begins, ends string, want bool) {
	t.Helper()
	on := false
	for _, line := range lines {
		switch {
		case strings.Contains(line, begins):
			if on {
				t.Errorf("said twice: %s", line)
			}
			on = true
		case strings.Contains(line, ends):
			if !on {
				t.Errorf("said without need: %s", line)
			}
			on = false
		}
	}
	if on != want {
		t.Errorf("in the end: %v, want %v; log: %q", on, want, lines)
	}
}

func TestWhatTheLogSaysAboutDANE(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := new(network)
		log, lines := observed()
		n.set(first, fails)
		run(t, newClient(t, n, dnsclient.Options{Log: log}))
		time.Sleep(time.Hour)
		got := lines()
		if len(got) != 1 || !strings.HasPrefix(got[0], "error DANE is off: ") || !strings.Contains(got[0], first+" failed: it answered without AD") ||
			!strings.Contains(got[0], "dns.trust_ad") {
			t.Errorf("got %q, want one error with a remedy", got)
		}
		n.set(first, passes)
		time.Sleep(time.Hour)
		if got := lines()[1:]; len(got) != 1 || !strings.HasPrefix(got[0], "info DANE is on again: ") {
			t.Errorf("got %q, want one message", got)
		}
	})
}
