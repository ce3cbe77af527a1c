package check_test

import (
	"crypto/tls"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/internal/check"
)

// What the mail hosts show, and what comes of it.
func TestMailHosts(t *testing.T) {
	ca := newAuthority()
	good1, good2 := ca.leaf(nil, "mx1.example.com"), ca.leaf(nil, "*.example.com")
	other := ca.leaf(nil, "other.example.net")
	enforced := world{zones: announced + oneMX, web: file(enforce)}
	both := world{zones: announced + twoMX, web: file(enforce)}
	covered := func(c tls.Certificate) world { return world{zones: signed + oneMX + tlsa1 + tlsa(c)} }
	at := func(hosts ...*mailHost) map[string]*mailHost {
		mail := make(map[string]*mailHost)
		for i, h := range hosts {
			if h != nil {
				mail[[]string{"198.51.100.1:25", "198.51.100.2:25"}[i]] = h
			}
		}
		return mail
	}
	for _, tt := range []struct {
		name  string
		world world
		mail  map[string]*mailHost
		want  check.Outcome
		says  []string // in the first lines
		shows string   // anywhere
	}{
		{"good", enforced, at(&mailHost{cert: good1}), check.Authenticated, []string{"mail is authenticated by MTA-STS"}, "delivers here"},
		{"good by a wildcard", both, at(&mailHost{cert: good1}, &mailHost{cert: good2}), check.Authenticated, []string{"mail is authenticated by MTA-STS"}, "for *.example.com"},
		{"common name only", enforced, at(&mailHost{cert: ca.leaf(nameless)}), check.Authenticated, []string{"mail is authenticated"}, "delivers here"},
		{"one line without hyphens", enforced, at(&mailHost{cert: good1, greeting: "220-mx\r\n220 ready\r\n"}), check.Authenticated, []string{"mail is authenticated"}, "delivers here"},
		{"TLS 1.2", enforced, at(&mailHost{cert: good1, max: tls.VersionTLS12}), check.Authenticated, []string{"mail is authenticated"}, "198.51.100.1:25 TLS 1.2"},
		{"no STARTTLS", enforced, at(&mailHost{cert: good1, offer: "250-mx\r\n250 8BITMIME\r\n"}), check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's MTA-STS policy", "mx1.example.com: the host does not offer STARTTLS"}, "does not deliver here"},
		{"text after STARTTLS", enforced, at(&mailHost{cert: good1, after: "220 go\r\n250 injected\r\n"}), check.Deferred,
			[]string{"the host sent more than its answer to STARTTLS"}, "does not deliver here"},
		{"greylisted", enforced, at(&mailHost{cert: good1, greeting: "421 go away\r\n"}), check.Unknown,
			[]string{`the greeting is "421 go away", want 220`}, "  Postfix  cannot be foretold: the host did not get as far as TLS"},
		{"any good code", enforced, at(&mailHost{cert: good1, greeting: "221 mx\r\n", offer: "251-mx\r\n251 STARTTLS\r\n"}), check.Authenticated, []string{"mail is authenticated"}, "delivers here"},
		{"not SMTP", enforced, at(&mailHost{cert: good1, greeting: "\r\n"}), check.Unknown, []string{`the greeting is "", want 220`}, ""},
		{"nothing enforced, and not reached", world{zones: oneMX}, at(nil), check.Unauthenticated, []string{"mail is not authenticated"}, "cannot be foretold: the host did not get as far as TLS"},
		{"nothing enforced, TLS 1.0", world{zones: oneMX}, at(&mailHost{cert: good1, max: tls.VersionTLS10}), check.Unauthenticated, []string{"mail is not authenticated"}, "TLS fails, so mail goes there in clear, if at all"},
		{"TLS 1.0", enforced, at(&mailHost{cert: good1, max: tls.VersionTLS10}), check.Deferred, []string{"the TLS handshake failed"}, ""},
		{"expired", enforced, at(&mailHost{cert: ca.leaf(expired, "mx1.example.com")}), check.Deferred, []string{"the certificate has expired on "}, ""},
		{"signed by nobody", enforced, at(&mailHost{cert: ca.leaf(alone, "mx1.example.com")}), check.Deferred, []string{"the certificate is signed by nobody but its holder"}, ""},
		{"unknown authority", enforced, at(&mailHost{cert: newAuthority().leaf(nil, "mx1.example.com")}), check.Deferred, []string{"not signed by a known authority", "intermediate certificate is missing"}, ""},
		{"another name", enforced, at(&mailHost{cert: other}), check.Deferred, []string{"the certificate is for other.example.net, want mx1.example.com"}, ""},
		{"no name at all", enforced, at(&mailHost{cert: ca.leaf(anonymous)}), check.Deferred, []string{"the certificate is for no name, want mx1.example.com"}, ""},
		{"not in the policy", world{zones: announced + oneMX, web: file(old)}, at(&mailHost{cert: good1}), check.Deferred,
			[]string{"mx1.example.com: the host is not in the policy, nor is what its certificate is for: mx1.example.com\n",
				"bring the mx lines of the policy up to date, then change the id; if the MX records are others elsewhere, somebody forges them, and an exception hands mail to them"}, ""},
		{"one of two not in the policy", world{zones: announced + twoMX, web: file(onlyMX1)}, at(&mailHost{cert: good1}, &mailHost{cert: ca.leaf(nil, "mx2.example.com")}), check.Authenticated,
			[]string{"1 of 2 mail hosts get no mail; mx2.example.com: the host is not in the policy, nor is what its certificate is for: mx2.example.com\n"}, ""},
		{"the second host is wrong", both, at(&mailHost{cert: good1}, &mailHost{cert: other}), check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "1 of 2 mail hosts get no mail; mx2.example.com: the certificate is for other.example.net"}, ""},
		{"not reached", enforced, at(nil), check.Unknown, []string{"no mail host can be reached from here", "port 25 is closed here"}, "no connection: connection refused"},
		{"not in the policy, but the certificate is", world{zones: announced + oneMX, web: file(old)}, at(&mailHost{cert: ca.leaf(nil, "old.example.net")}), check.Authenticated,
			[]string{"only by Postfix before 3.10.5, or with map policy"}, "the host is not in the policy"},
		{"certificate of the policy only", enforced, at(&mailHost{cert: ca.leaf(nil, "mx2.example.com")}), check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}, "not the host's own name"},
		{"nothing enforced, TLS", world{zones: oneMX}, at(&mailHost{cert: other}), check.Unauthenticated, []string{"mail is not authenticated"}, "encrypted, not authenticated"},
		{"nothing enforced, no TLS", world{zones: oneMX}, at(&mailHost{offer: "250 mx\r\n"}), check.Unauthenticated, []string{"mail is not authenticated"}, "mail goes there in clear"},
		{"DANE", covered(good1), at(&mailHost{cert: good1}), check.Authenticated, []string{"mail is authenticated by DANE"}, "delivers here"},
		{"DANE does not look at names and dates", covered(good2), at(&mailHost{cert: good2}), check.Authenticated, []string{"mail is authenticated by DANE"}, "delivers here"},
		{"DANE of an old key", covered(good2), at(&mailHost{cert: good1}), check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's TLSA records", "no TLSA record matches the certificate"}, ""},
		{"DANE of the best host only, and a policy", world{zones: signed + announced + twoMX + tlsa1 + tlsa(good1), web: file(enforce)}, at(&mailHost{cert: good1}, &mailHost{cert: good2}), check.Authenticated,
			[]string{"mail is authenticated by DANE", "1 of 2 mail hosts get no mail; mx2.example.com: the host has no usable DANE"}, ""},
		{"DANE that fails for one host", world{zones: signed + twoMX + tlsa1 + tlsa(good1) + "\n" + tlsa2 + unusable, web: file(enforce)}, at(&mailHost{cert: good1}, &mailHost{cert: good2}), check.Unauthenticated,
			[]string{"mail is not authenticated"}, "encrypted, not authenticated"},
		{"a wildcard in the policy", world{zones: announced + oneMX, web: file(wildcard)}, at(&mailHost{cert: ca.leaf(nil, "any.example.com")}), check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}, "not the host's own name"},
		{"DANE without STARTTLS", covered(good1), at(&mailHost{offer: "250 mx\r\n"}), check.Deferred, []string{"the host does not offer STARTTLS"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.world.ca, tt.world.mail = ca, tt.mail
			r := tt.world.run(t, "example.com")
			if r.Conclusion.Outcome != tt.want {
				t.Errorf("outcome: got %v, want %v", r.Conclusion.Outcome, tt.want)
			}
			text := r.Text()
			for _, s := range tt.says {
				if !strings.Contains(firstLines(text), s) {
					t.Errorf("the first lines do not say %q:\n%s", s, text)
				}
			}
			if !strings.Contains(text, tt.shows) {
				t.Errorf("no %q in:\n%s", tt.shows, text)
			}
		})
	}
}

// As Postfix does, the next address of a host is tried where one does not take
// mail, whatever the reason. What is shown first is the address that decides.
func TestEveryAddressOfAMailHost(t *testing.T) {
	ca := newAuthority()
	good := &mailHost{cert: ca.leaf(nil, "mx1.example.com")}
	late, stripped := &mailHost{greeting: "421 later\r\n"}, &mailHost{offer: "250 mx\r\n"}
	wrong := &mailHost{cert: ca.leaf(expired, "mx1.example.com")}
	w := world{ca: ca, zones: announced + oneMX + "mx1.example.com. A 198.51.100.2\nmx1.example.com. A 198.51.100.3\n", web: file(enforce)}
	for _, tt := range []struct {
		name  string
		hosts [3]*mailHost
		want  check.Outcome
		shows string
	}{
		{"the last is good", [3]*mailHost{nil, late, good}, check.Authenticated, "  SMTP     198.51.100.3:25 TLS 1.3"},
		{"the first is good", [3]*mailHost{good, late, nil}, check.Authenticated, "  SMTP     198.51.100.1:25 TLS 1.3"},
		{"one is greeted", [3]*mailHost{nil, late, nil}, check.Unknown, `  SMTP     198.51.100.2:25 the greeting is "421 later"`},
		{"one strips STARTTLS", [3]*mailHost{late, stripped, good}, check.Authenticated, "  SMTP     198.51.100.3:25 TLS 1.3"},
		{"what strips STARTTLS is shown too", [3]*mailHost{late, stripped, good}, check.Authenticated, "  SMTP     198.51.100.2:25 the host does not offer STARTTLS\n  Postfix  does not deliver here: "},
		{"one has a bad certificate", [3]*mailHost{wrong, good, nil}, check.Authenticated, "  Postfix  does not deliver here: the certificate has expired on "},
		{"one strips, one is not known", [3]*mailHost{stripped, late, nil}, check.Unknown, `  SMTP     198.51.100.2:25 the greeting is "421 later"`},
		{"one strips, the others are not there", [3]*mailHost{nil, stripped, nil}, check.Unknown, "  SMTP     198.51.100.2:25 the host does not offer STARTTLS"},
		{"all are refused", [3]*mailHost{stripped, wrong, stripped}, check.Deferred, "  SMTP     198.51.100.1:25 the host does not offer STARTTLS"},
		{"none is there", [3]*mailHost{}, check.Unknown, "  SMTP     198.51.100.1:25 no connection: connection refused"},
	} {
		w.mail = make(map[string]*mailHost)
		for i, h := range tt.hosts {
			w.mail[fmt.Sprintf("198.51.100.%d:25", i+1)] = h
		}
		r := w.run(t, "example.com")
		if text := r.Text(); r.Conclusion.Outcome != tt.want || !strings.Contains(text, tt.shows) {
			t.Errorf("%s: got %v, want %v and %q in\n%s", tt.name, r.Conclusion.Outcome, tt.want, tt.shows, text)
		}
	}
}

// DANE is judged at every address too.
func TestEveryAddressOfAMailHostWithDANE(t *testing.T) {
	ca := newAuthority()
	good := ca.leaf(nil, "mx1.example.com")
	w := world{ca: ca, zones: signed + oneMX + "mx1.example.com. A 198.51.100.2\n" + tlsa1 + tlsa(good), mail: map[string]*mailHost{
		"198.51.100.1:25": {cert: ca.leaf(nil, "mx1.example.com")}, "198.51.100.2:25": {cert: good},
	}}
	if r := w.run(t, "example.com"); r.Conclusion.Outcome != check.Authenticated {
		t.Errorf("got %v in\n%s", r.Conclusion.Outcome, r.Text())
	}
}

// A silent address leaves time for the others.
func TestASilentAddressLeavesTimeForTheOthers(t *testing.T) {
	ca := newAuthority()
	w := world{ca: ca, zones: announced + oneMX + "mx1.example.com. A 198.51.100.2\n", web: file(enforce), mail: map[string]*mailHost{
		"198.51.100.1:25": {hang: true}, "198.51.100.2:25": {cert: ca.leaf(nil, "mx1.example.com")},
	}}
	r := w.run(t, "example.com")
	if text := r.Text(); r.Conclusion.Outcome != check.Authenticated || !strings.Contains(text, "  SMTP     198.51.100.1:25 no end within 500ms\n") {
		t.Errorf("got %v in\n%s", r.Conclusion.Outcome, text)
	}
}

// The JSON object has every address that was looked at.
func TestJSONOfEveryAddress(t *testing.T) {
	ca := newAuthority()
	w := world{ca: ca, zones: announced + oneMX + "mx1.example.com. A 198.51.100.2\n", web: file(enforce), mail: map[string]*mailHost{
		"198.51.100.1:25": {offer: "250 mx\r\n"}, "198.51.100.2:25": {cert: ca.leaf(nil, "mx1.example.com")},
	}}
	type probe struct {
		Target   string
		Delivers bool
	}
	var got struct {
		Hosts []struct {
			SMTP  probe
			Tried []probe `json:"smtp_tried"`
		} `json:"mail_hosts"`
	}
	if err := json.Unmarshal([]byte(w.run(t, "example.com").JSON()), &got); err != nil {
		t.Fatal(err)
	}
	bad, good := probe{"198.51.100.1:25", false}, probe{"198.51.100.2:25", true}
	if h := got.Hosts; len(h) != 1 || h[0].SMTP != good || !slices.Equal(h[0].Tried, []probe{bad, good}) {
		t.Errorf("got %+v", got)
	}
}

// Where all hosts encrypt, the exception need not go as far as clear text.
func TestExceptionAsksForEncryptionWhereItCan(t *testing.T) {
	ca := newAuthority()
	w := world{ca: ca, zones: announced + oneMX, web: file(enforce), mail: map[string]*mailHost{"198.51.100.1:25": {cert: ca.leaf(expired, "mx1.example.com")}}}
	if got := w.run(t, "EXAMPLE.com").Exception().Line; got != "example.com  encrypt" {
		t.Errorf("got %q", got)
	}
	w.mail["198.51.100.1:25"].offer = "250 mx\r\n"
	if got := w.run(t, "example.com").Exception().Line; got != "example.com  may" {
		t.Errorf("got %q", got)
	}
}

// ending returns a certificate that says of its end what no program writes.
func ending(t *testing.T, c tls.Certificate, end string) *tls.Certificate {
	t.Helper()
	var whole struct {
		Body struct {
			Version                                  int `asn1:"explicit,tag:0"`
			Serial                                   *big.Int
			Alg, Issuer, Validity, Subject, Key, Ext asn1.RawValue
		}
		Alg, Signature asn1.RawValue
	}
	if _, err := asn1.Unmarshal(c.Certificate[0], &whole); err != nil {
		t.Fatal(err)
	}
	const begin = "20200101000000Z"
	der := "\x18" + string(rune(len(begin))) + begin + "\x18" + string(rune(len(end))) + end
	whole.Body.Validity = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: []byte(der)}
	raw, err := asn1.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	c.Certificate = [][]byte{raw}
	return &c
}

// The time of a certificate may have a zone, or a year, that JSON does not take.
func TestCertificatesWithOddTimes(t *testing.T) {
	ca := newAuthority()
	for end, want := range map[string]string{
		"20600101000000+2400": "2059-12-31T00:00:00Z",
		"99991231235959-0100": "10000-01-01T00:59:59Z",
		"00000101000000+0100": "-0001-12-31T23:00:00Z",
	} {
		odd := ending(t, ca.leaf(nil, "mx1.example.com", "mta-sts.example.com"), end)
		w := world{ca: ca, zones: announced + oneMX, web: file(enforce), mail: map[string]*mailHost{"198.51.100.1:25": {cert: *odd}}}
		object := w.run(t, "example.com").JSON()
		if !json.Valid([]byte(object)) || !strings.Contains(object, `"not_after": "`+want+`"`) {
			t.Errorf("%s: no %q in\n%s", end, want, object)
		}
		w.cert, w.mail = odd, nil
		if object := w.run(t, "example.com").JSON(); !json.Valid([]byte(object)) {
			t.Errorf("%s at the policy host: got\n%s", end, object)
		}
	}
}
