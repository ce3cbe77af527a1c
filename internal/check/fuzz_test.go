package check

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// deaf is a connection that takes everything and says nothing.
type deaf struct{ net.Conn }

func (deaf) Write(p []byte) (int, error) { return len(p), nil }

// FuzzDialogue talks to a host that has said all that it will ever say, at once
// and a byte at a time.
func FuzzDialogue(f *testing.F) {
	for _, s := range []string{
		"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n",
		"220-mx\r\n220\r\n250 mx\r\n",
		"220 mx\n250-mx\n250-starttls x\n250 X\n220 go\n220 more\n",
		"554 no\r\n", "220", "22\r\n", "\r\n", "+22 x\r\n", "220 mx\r\n250-mx\r\n250-STARTTLS\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var probe, slow Probe
		atOnce := &dialogue{conn: deaf{}, in: bufio.NewReader(strings.NewReader(s))}
		err := atOnce.startTLS("name", &probe)
		bytewise := &dialogue{conn: deaf{}, in: bufio.NewReader(iotest.OneByteReader(strings.NewReader(s)))}
		slowErr := bytewise.startTLS("name", &slow)
		if err == nil && (!probe.STARTTLS || !strings.Contains(strings.ToUpper(s), "STARTTLS")) {
			t.Errorf("TLS is to begin after %q", s)
		}
		// What came too early is seen only when it is there.
		if probe.STARTTLS != slow.STARTTLS || err == nil && slowErr != nil {
			t.Errorf("%q: at once %v, %v, a byte at a time %v, %v", s, probe.STARTTLS, err, slow.STARTTLS, slowErr)
		}
	})
}

// FuzzSettings reads whatever main.cf may hold.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{
		"mail_version = 3.10.5\nsmtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:policy\n",
		"smtp_tls_policy_maps = proxy:socketmap:unix:private/x:policy-tlsrpt, hash:/etc/x\n",
		"smtp_tls_policy_maps = socketmap:\nmail_version = 99999999999999999999.1", "=", "socketmap:inet:", "mail_version = x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := &Postfix{Settings: readSettings(s)}
		p.look(place{listen: []string{"127.0.0.1:8461", "unix:/run/x"}})
		for _, m := range socketmaps(p.Settings[setMaps]) {
			if strings.ContainsAny(m.name, ": ,") || !strings.Contains(s, m.address) {
				t.Errorf("%q has a map %q", s, m)
			}
		}
	})
}
