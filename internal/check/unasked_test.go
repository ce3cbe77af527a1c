package check_test

import (
	"encoding/json"
	"strings"
	"testing"

	"tlspolicyd/internal/check"
	"tlspolicyd/socketmap/policymap"
)

// Keys that the daemon answers without a look: that is known, and is said.
func TestKeysThatAreNotLookedAt(t *testing.T) {
	const apply = "the daemon answers NOTFOUND for this key without a look, so Postfix's own level applies (smtp_tls_security_level = dane)"
	for _, tt := range []struct{ key, because, remedy, line string }{
		{"[192.0.2.1]", "an IP address has no MTA-STS policy and no DANE", "name the host instead of its address", "[192.0.2.1]  may"},
		{"[192.0.2.1]:587", "an IP address has no", "name the host", "[192.0.2.1]:587  may"},
		{"[IPv6:2001:db8::1]:25", "an IP address has no", "name the host", "[ipv6:2001:db8::1]:25  may"},
		{"[2001:db8::1]", "an IP address has no", "name the host", "[2001:db8::1]  may"},
		{"192.0.2.1", "an IP address has no", "name the host", "192.0.2.1  may"},
		{"user@example.com", `not a domain name: "user@example.com"`, "ask for the domain: tlspolicyd check example.com", ""},
		{"user@", `not a domain name: "user@"`, "", ""},
		{"/var/mail", `not a domain name: "/var/mail"`, "", ""},
		{"MailHost", `"MailHost" has one label`, "give the host its full name", "mailhost  may"},
		{"[mail.example.com]", "smart hosts are not looked at", "smart_hosts: true", "[mail.example.com]  may"},
		{".example.com", "parent domain", "ask for the domain: tlspolicyd check example.com", ""},
		{"example.com:0", "neither a port nor a service", "", "example.com:0  may"},
		{"a b", `not a domain name: "a b"`, "", ""},
		{"b\u00fccher", "one label", "give the host its full name", ""},
		{"", "empty key", "", ""},
	} {
		_, reason := policymap.ParseKey(tt.key, policymap.KeyRules{NoSmartHosts: tt.key == "[mail.example.com]"})
		if reason == nil {
			t.Fatalf("%q is a key", tt.key)
		}
		r := check.New(check.Options{Postconf: settings(nil), Listen: []string{"127.0.0.1:8461"}}).Unasked(t.Context(), tt.key, reason)
		text := r.Text()
		if r.Conclusion.Outcome != check.Unauthenticated || !strings.HasPrefix(text, tt.key+": "+apply+"\n  because  ") {
			t.Errorf("%q: got %v and\n%s", tt.key, r.Conclusion.Outcome, text)
		}
		if !strings.Contains(firstLines(text), tt.because) || !strings.Contains(r.Conclusion.Remedy, tt.remedy) || (r.Conclusion.Remedy == "") != (tt.remedy == "") {
			t.Errorf("%q: no %q and %q in\n%s", tt.key, tt.because, tt.remedy, text)
		}
		if !strings.Contains(text, "\n  policy-dane-tlsrpt  NOTFOUND\n") || strings.Contains(text, "MTA-STS\n") {
			t.Errorf("%q: the answers are not shown, or more:\n%s", tt.key, text)
		}
		var got struct {
			Key, Outcome, Summary string
			Answers               []struct{ Map, Reply string }
			Hosts                 []struct{} `json:"mail_hosts"`
			Exception             struct{ Line, Setting string }
		}
		if err := json.Unmarshal([]byte(r.JSON()), &got); err != nil {
			t.Fatal(err)
		}
		if got.Key != tt.key || got.Outcome != "unauthenticated" || got.Summary != apply || len(got.Answers) != 5 || got.Hosts == nil {
			t.Errorf("%q: got %+v", tt.key, got)
		}
		if got.Exception.Line != tt.line || (got.Exception.Setting == "") != (tt.line == "") || strings.Contains(text, "  table    ") != (tt.line != "") {
			t.Errorf("%q: got %+v, want %q", tt.key, got.Exception, tt.line)
		}
	}
}

// Without a Postfix its level is not told.
func TestKeysThatAreNotLookedAtWithoutPostfix(t *testing.T) {
	r := check.New(check.Options{}).Unasked(t.Context(), "localhost", policymap.ErrEmptyKey)
	if !strings.HasSuffix(r.Conclusion.Summary, "so Postfix's own level applies") {
		t.Errorf("got %q", r.Conclusion.Summary)
	}
}
