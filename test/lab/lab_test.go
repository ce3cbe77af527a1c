//go:build e2e

package lab_test

import (
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// The DNS of the lab says what the tests rely on: which zones are secure, and
// which cannot be validated.
func TestZones(t *testing.T) {
	l := lab.New(t)
	l.Zones.Set(t, `
		signed.example. 60 MX 10 mx.signed.example.
		plain.test. 60 MX 10 mx.plain.test.
		broken.bogus. 60 MX 10 mx.broken.bogus.`)
	for _, c := range []struct {
		name, about string
		qtype       dnsmessage.Type
		rcode       dnsmessage.RCode
		secure      bool
		records     int
	}{
		{"the root", ".", dnsmessage.TypeNS, dnsmessage.RCodeSuccess, true, 1},
		{"a signed zone", "signed.example.", dnsmessage.TypeMX, dnsmessage.RCodeSuccess, true, 1},
		{"a signed denial", "other.example.", dnsmessage.TypeMX, dnsmessage.RCodeNameError, true, 0},
		{"an unsigned zone", "plain.test.", dnsmessage.TypeMX, dnsmessage.RCodeSuccess, false, 1},
		{"an unsigned denial", "other.test.", dnsmessage.TypeMX, dnsmessage.RCodeNameError, false, 0},
		{"a zone with a wrong DS", "broken.bogus.", dnsmessage.TypeMX, dnsmessage.RCodeServerFailure, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := lab.Query(t.Context(), lab.Resolver, c.about, c.qtype)
			if err != nil {
				t.Fatal(err)
			}
			if m.RCode != c.rcode || m.AuthenticData != c.secure || len(m.Answers) != c.records {
				t.Errorf("%v, secure %v, %d records; want %v, %v, %d",
					m.RCode, m.AuthenticData, len(m.Answers), c.rcode, c.secure, c.records)
			}
		})
	}
}

// A change is seen by the next question, whatever was known before.
func TestZonesChange(t *testing.T) {
	l := lab.New(t)
	for _, domain := range []string{"d.example.", "d.test."} {
		name := "_mta-sts." + domain
		wantTXT(t, name)
		l.Zones.Set(t, name+` 3600 TXT "v=STSv1; id=1"`)
		wantTXT(t, name, "v=STSv1; id=1")
		l.Zones.Set(t, name+" 3600 TXT \"v=STSv1; id=2\"\n"+name+` 3600 TXT "other"`)
		wantTXT(t, name, "v=STSv1; id=2", "other")
		l.Zones.Remove(t, name, "TXT")
		wantTXT(t, name)
	}
}

func wantTXT(t *testing.T, name string, want ...string) {
	t.Helper()
	m, err := lab.Query(t.Context(), lab.Resolver, name, dnsmessage.TypeTXT)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Answers) != len(want) {
		t.Fatalf("%s has %d TXT records, want %d", name, len(m.Answers), len(want))
	}
	for _, text := range want {
		found := false
		for _, a := range m.Answers {
			txt, ok := a.Body.(*dnsmessage.TXTResource)
			found = found || ok && strings.Join(txt.TXT, "") == text
		}
		if !found {
			t.Errorf("%s has no TXT record %q", name, text)
		}
	}
}

// The tap passes questions on, counts them, and fails them when told to.
func TestTap(t *testing.T) {
	l := lab.New(t)
	tap := l.StartTap(t, "127.0.0.1:5353")
	l.Zones.Set(t, "a.b.example. 60 A 127.0.0.9")
	m, err := lab.Query(t.Context(), tap.Addr, "A.b.example.", dnsmessage.TypeA)
	if err != nil || !m.AuthenticData || len(m.Answers) != 1 {
		t.Errorf("through the tap: secure %v, %d records, %v", m.AuthenticData, len(m.Answers), err)
	}
	tap.SetFault(func(lab.Question) lab.Fault { return lab.ServFail })
	m, err = lab.Query(t.Context(), tap.Addr, "c.b.example.", dnsmessage.TypeA)
	if err != nil || m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("a failed question: %v, %v", m.RCode, err)
	}
	if n := len(tap.Asked("b.example")); n != 2 {
		t.Errorf("%d questions were counted, want 2", n)
	}
}
