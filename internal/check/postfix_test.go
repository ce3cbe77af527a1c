package check_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/internal/check"
)

// goodSettings are those that lack nothing.
var goodSettings = map[string]string{
	"mail_version": "3.10.5", "smtp_tls_security_level": "dane", "smtp_dns_support_level": "dnssec",
	"smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:policy", "smtp_tls_CAfile": "/etc/ssl/certs/ca-certificates.crt",
	"smtp_tls_CApath": "", "tls_append_default_CA": "no",
}

func settings(change map[string]string) check.Postconf {
	all := maps.Clone(goodSettings)
	maps.Copy(all, change)
	return func(context.Context, ...string) (check.Settings, error) { return check.Settings{Values: all}, nil }
}

func TestWhatMainCFLacks(t *testing.T) {
	ca := newAuthority()
	for _, tt := range []struct {
		name   string
		change map[string]string
		lacks  string
	}{
		{"nothing", nil, "main.cf lacks nothing"},
		{"nothing, on localhost, through proxymap", map[string]string{"smtp_tls_policy_maps": "hash:/etc/postfix/tls, proxy:socketmap:inet:localhost:8461:policy"}, "main.cf lacks nothing"},
		{"nothing, with a directory of authorities", map[string]string{"smtp_tls_CAfile": "", "smtp_tls_CApath": "/etc/ssl/certs"}, "main.cf lacks nothing"},
		{"nothing, over a Unix socket in the queue", map[string]string{"smtp_tls_policy_maps": "socketmap:unix:private/tlspolicyd:policy"}, "main.cf lacks nothing"},
		{"the map", map[string]string{"smtp_tls_policy_maps": ""}, "asks no socketmap"},
		{"the address", map[string]string{"smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8642:QUERY"}, "asks 127.0.0.1:8642, and the daemon is to listen on 127.0.0.1:8461"},
		{"the name of the map", map[string]string{"smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:polcy"}, `there is no map "polcy"`},
		{"a level", map[string]string{"smtp_tls_security_level": ""}, `smtp_tls_security_level is ""`},
		{"DNSSEC for the level", map[string]string{"smtp_dns_support_level": "enabled"}, "smtp_tls_security_level = dane needs smtp_dns_support_level = dnssec"},
		{"DNSSEC for the map", map[string]string{"smtp_dns_support_level": "", "smtp_tls_security_level": "may"}, "for which the answer is dane-only is deferred"},
		{"a map that keeps the level", map[string]string{"smtp_tls_security_level": "encrypt", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:QUERYwithTLSRPT"},
			"map policy-dane-tlsrpt answers dane for some domains, which is less than smtp_tls_security_level = encrypt: use map policy-tlsrpt"},
		{"nothing, with a level of its own", map[string]string{"smtp_tls_security_level": "encrypt"}, "main.cf lacks nothing"},
		{"authorities", map[string]string{"smtp_tls_CAfile": ""}, "Postfix trusts no authority"},
		{"authorities to which the default ones are added", map[string]string{"smtp_tls_CAfile": "", "tls_append_default_CA": "yes"}, "Postfix trusts no authority"},
		{"a newer Postfix", map[string]string{"mail_version": "3.3.22"}, "Postfix 3.3.22 is too old"},
		{"a Postfix for the map", map[string]string{"mail_version": "3.7.11", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:policy-tlsrpt"}, "map policy-tlsrpt needs Postfix 3.10; this is 3.7.11"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world{ca: ca, zones: oneMX, postconf: settings(tt.change), listen: []string{"127.0.0.1:8461", "unix:/var/spool/postfix/private/tlspolicyd"}}
			text := w.run(t, "example.com").Text()
			if !strings.Contains(text, tt.lacks) {
				t.Errorf("no %q in:\n%s", tt.lacks, text)
			}
			if tt.change == nil && strings.Contains(text, "main.cf  smtp_tls_policy_maps asks") {
				t.Errorf("something is lacking:\n%s", text)
			}
		})
	}
}

// What keeps Postfix from doing what is said stands among the first lines.
func TestWhatMainCFDoesToTheVerdict(t *testing.T) {
	ca := newAuthority()
	daneOnly := signed + announced + oneMX + tlsa1 + usable
	for _, tt := range []struct {
		name, zones string
		change      map[string]string
		says        string
	}{
		{"no map", announced + oneMX, map[string]string{"smtp_tls_policy_maps": ""}, "here     smtp_tls_policy_maps asks no socketmap, so Postfix does not know of this"},
		{"no map, and DANE", daneOnly, map[string]string{"smtp_tls_policy_maps": ""}, "here     smtp_tls_policy_maps asks no socketmap, so Postfix does not know of this"},
		{"a map elsewhere", announced + oneMX, map[string]string{"smtp_tls_policy_maps": "hash:/x, socketmap:inet:127.0.0.1:8642:policy"}, "here     smtp_tls_policy_maps asks 127.0.0.1:8642, and the daemon is to listen on 127.0.0.1:8461 (unless systemd opens other sockets for it), so Postfix does not know of this"},
		{"a map for a newer Postfix", announced + oneMX, map[string]string{"mail_version": "3.7.11", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:policy-tlsrpt"}, "here     map policy-tlsrpt needs Postfix 3.10, so Postfix 3.7.11 defers this mail"},
		{"no authorities", announced + oneMX, map[string]string{"smtp_tls_CAfile": ""}, "here     Postfix trusts no certificate authority (smtp_tls_CAfile), so it defers this mail"},
		{"no level for DANE alone", signed + oneMX + tlsa1 + usable, map[string]string{"smtp_tls_security_level": "may"}, `here     smtp_tls_security_level is "may", so Postfix does no DANE: set it to dane, or ask map policy-dane`},
		{"no DNSSEC for DANE alone", signed + oneMX + tlsa1 + usable, map[string]string{"smtp_dns_support_level": ""}, "here     smtp_dns_support_level is not dnssec, so Postfix does no DANE"},
		{"no DNSSEC", daneOnly, map[string]string{"smtp_dns_support_level": ""}, "here     smtp_dns_support_level is not dnssec, so Postfix defers this mail"},
		{"no DNSSEC for DANE alone, by a map that answers for it", signed + oneMX + tlsa1 + usable, map[string]string{"smtp_dns_support_level": "", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:QUERY"}, "here     smtp_dns_support_level is not dnssec, so Postfix defers this mail"},
		{"a map that does not look at DANE", daneOnly, map[string]string{"smtp_dns_support_level": "", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:postfix"}, "here     Postfix asks map postfix, which does not look at DANE; the answer is: OK secure match=mx1.example.com:mx2.example.com servername=hostname"},
		{"a map of no known name", daneOnly, map[string]string{"smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:polcy"}, "here     Postfix asks map polcy, which does not look at DANE; the answer is: OK secure match="},
	} {
		w := world{ca: ca, zones: tt.zones, web: file(enforce), postconf: settings(tt.change), listen: []string{"127.0.0.1:8461"}}
		if text := w.run(t, "example.com").Text(); !strings.Contains(firstLines(text), tt.says) {
			t.Errorf("%s: the first lines do not say %q:\n%s", tt.name, tt.says, text)
		}
	}
}

// A relay whose map answers for DANE is told one thing about it.
func TestMainCFOfAMapWithDANE(t *testing.T) {
	w := world{ca: newAuthority(), zones: signed + oneMX + tlsa1 + usable, listen: []string{"127.0.0.1:8461"},
		postconf: settings(map[string]string{"smtp_dns_support_level": "", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:policy-dane"})}
	if here := w.run(t, "example.com").Conclusion.Here; len(here) != 1 || !strings.Contains(here[0], "defers") {
		t.Errorf("got %q, want that Postfix defers this mail", here)
	}
}

// A relay whose map does not look at DANE does not need DNSSEC for it.
func TestMainCFOfAMapWithoutDANE(t *testing.T) {
	w := world{ca: newAuthority(), zones: signed + announced + oneMX + tlsa1 + usable, web: file(enforce), listen: []string{"127.0.0.1:8461"},
		postconf: settings(map[string]string{"smtp_dns_support_level": "", "smtp_tls_security_level": "may", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:postfix"})}
	if here := w.run(t, "example.com").Conclusion.Here; len(here) != 1 || strings.Contains(here[0], "defers") {
		t.Errorf("got %q, want what the map answers and nothing else", here)
	}
}

// What this machine lacks for DANE is said whatever the mail hosts show.
func TestWhatMainCFDoesToDANEThatIsRefused(t *testing.T) {
	ca := newAuthority()
	host := ca.leaf(nil, "mx1.example.com")
	for name, mail := range map[string]*mailHost{"refused": {cert: host}, "turned away": {greeting: "421 later\r\n"}} {
		w := world{ca: ca, zones: signed + oneMX + tlsa1 + usable, postconf: settings(map[string]string{"smtp_dns_support_level": ""}),
			mail: map[string]*mailHost{"198.51.100.1:25": mail}}
		r := w.run(t, "example.com")
		const want = "here     smtp_dns_support_level is not dnssec, so Postfix does no DANE"
		if text := r.Text(); r.Conclusion.Outcome == check.Authenticated || !strings.Contains(firstLines(text), want) {
			t.Errorf("%s: got %v, want %q in\n%s", name, r.Conclusion.Outcome, want, text)
		}
	}
}

// What is to be pasted is whole, however long it is.
func TestTheExceptionIsNotCut(t *testing.T) {
	long := strings.Repeat("hash:/etc/postfix/one_of_many_tables, ", 300) + "socketmap:inet:127.0.0.1:8461:policy"
	w := world{ca: newAuthority(), zones: oneMX, postconf: settings(map[string]string{"smtp_tls_policy_maps": long})}
	text := w.run(t, "example.com").Text()
	if want := "\n  main.cf  smtp_tls_policy_maps = " + strings.Replace(long, "socketmap", "texthash:/etc/postfix/tls_exceptions, socketmap", 1) + "\n"; !strings.Contains(text, want) {
		t.Errorf("it is not whole in\n%.3000s", text)
	}
	for line := range strings.Lines(text) {
		if len(line) > 450 && !strings.HasPrefix(line, "  main.cf  smtp_tls_policy_maps = ") {
			t.Errorf("a line of %d characters: %.80q", len(line), line)
		}
	}
}

// The line to paste loses no map, and asks the table before the daemon.
func TestTheExceptionKeepsEveryMap(t *testing.T) {
	const (
		table  = "texthash:/etc/postfix/tls_exceptions"
		daemon = "socketmap:inet:127.0.0.1:8461:policy"
		ours   = "hash:/etc/postfix/tls_policy"
	)
	ca := newAuthority()
	for _, tt := range []struct{ name, maps, want string }{
		{"nothing", "", table + ", " + daemon},
		{"the daemon", daemon, table + ", " + daemon},
		{"the daemon, through proxymap", "proxy:" + daemon, table + ", proxy:" + daemon},
		{"another table alone", ours, ours + ", " + table + ", " + daemon},
		{"another table before", ours + "," + daemon, ours + ", " + table + ", " + daemon},
		{"another table behind", daemon + " " + ours, table + ", " + daemon + ", " + ours},
		{"the table before", table + ", " + ours + ", " + daemon, table + ", " + ours + ", " + daemon},
		{"the table behind", daemon + ", " + table, table + ", " + daemon},
		{"the table behind, and another", daemon + ", " + ours + ", " + table, table + ", " + daemon + ", " + ours},
		{"the table alone", table, table + ", " + daemon},
		{"a table of a longer name", table + "_old, " + daemon, table + "_old, " + table + ", " + daemon},
		{"a map of maps", "unionmap:{ " + ours + ", " + daemon + " }", table + ", unionmap:{ " + ours + ", " + daemon + " }"},
		{"a table within a map", "inline:{ {a.example = may}, b.example=may } " + daemon, "inline:{ {a.example = may}, b.example=may }, " + table + ", " + daemon},
		{"braces that do not close", "inline:{ a=b, " + daemon, table + ", inline:{ a=b, " + daemon},
	} {
		w := world{ca: ca, zones: oneMX, postconf: settings(map[string]string{"smtp_tls_policy_maps": tt.maps})}
		if got := w.run(t, "example.com").Exception().Setting; got != "smtp_tls_policy_maps = "+tt.want {
			t.Errorf("%s: got\n%s, want\n%s", tt.name, got, tt.want)
		}
	}
}

// The key of the exception is what Postfix asks for.
func TestExceptionOfEveryKindOfKey(t *testing.T) {
	ca := newAuthority()
	for key, want := range map[string]string{
		"Example.COM.":                      "example.com  may",
		"example.com:submission":            "example.com:submission  may",
		"[MX1.example.com]:587":             "[mx1.example.com]:587  may",
		"b\u00fccher.example":               "b\u00fccher.example  may",
		"B\u00dcCHER.example":               "b\u00fccher.example  may",
		"xn--bcher-kva.example":             "xn--bcher-kva.example  may",
		"example.com:no-such-service-known": "example.com:no-such-service-known  may",
	} {
		w := world{ca: ca, zones: oneMX}
		r := w.run(t, key)
		if got := r.Exception().Line; got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
		if here := strings.Contains(r.Text(), "does not know the port of the service"); here != strings.Contains(key, "no-such") {
			t.Errorf("%q: the port is not known: %v", key, here)
		}
	}
}

// Where all is well nothing is said of this machine.
func TestMainCFThatDoesNoHarm(t *testing.T) {
	ca := newAuthority()
	for _, change := range []map[string]string{nil, {"smtp_tls_security_level": "may", "smtp_tls_policy_maps": "socketmap:inet:127.0.0.1:8461:policy-dane"}} {
		w := world{ca: ca, zones: signed + oneMX + tlsa1 + usable, postconf: settings(change)}
		if r := w.run(t, "example.com"); len(r.Conclusion.Here) > 0 {
			t.Errorf("%v: got %q", change, r.Conclusion.Here)
		}
	}
}

func TestPostfixThatCannotBeAsked(t *testing.T) {
	w := world{ca: newAuthority(), zones: announced + oneMX, web: file(enforce), postconf: func(context.Context, ...string) (check.Settings, error) {
		return check.Settings{}, errors.New("there is no postconf")
	}}
	r := w.run(t, "example.com")
	if r.Conclusion.Outcome != check.Authenticated || len(r.Conclusion.Here) > 0 || !strings.Contains(r.Text(), "there is no postconf") {
		t.Errorf("got %v:\n%s", r.Conclusion, r.Text())
	}
}

// fakePostconf puts a program named postconf into the search path.
func fakePostconf(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "postconf"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
}

func TestRunPostconf(t *testing.T) {
	fakePostconf(t, `test "$1 $2" = "-x mail_version" || exit 1
echo "mail_version = 3.9.1"
echo "smtp_tls_policy_maps = a, b=c"
echo "smtp_tls_CApath ="
echo "postconf: warning: what is this" >&2
echo "postconf: warning: what is this" >&2
`)
	got, err := check.RunPostconf(t.Context(), "mail_version", "smtp_tls_policy_maps")
	want := map[string]string{"mail_version": "3.9.1", "smtp_tls_policy_maps": "a, b=c", "smtp_tls_CApath": ""}
	if err != nil || !maps.Equal(got.Values, want) {
		t.Errorf("got %q, %v, want %q", got.Values, err, want)
	}
	if !slices.Equal(got.Said, []string{"postconf: warning: what is this"}) {
		t.Errorf("got %q, want its warning", got.Said)
	}
}

// What postconf says of a failure is what helps.
func TestRunPostconfThatFails(t *testing.T) {
	for script, want := range map[string]string{
		"exit 3\n": "exit status 3",
		"echo 'postconf: fatal: open /etc/postfix/main.cf: Permission denied' >&2; exit 1\n":                                                                                               "exit status 1: postconf: fatal: open /etc/postfix/main.cf: Permission denied",
		"for i in 1 2 3 4 5 6 7 8; do echo 'postconf: warning: main.cf, line 7: overriding earlier entry' >&2; done; echo 'postconf: fatal: missing = after attribute name' >&2; exit 1\n": "exit status 1: postconf: fatal: missing = after attribute name",
		"yes smtp_tls_policy_maps = x | head -c 70000\n": "more than 65536 bytes",
	} {
		fakePostconf(t, script)
		if got, err := check.RunPostconf(t.Context(), "mail_version"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %q, %v, want an error with %q", script, got, err, want)
		}
	}
}

// What postconf complains about is shown.
func TestWhatPostconfComplainsAbout(t *testing.T) {
	said := "postconf: warning: /etc/postfix/main.cf, line 7: overriding earlier entry"
	postconf := func(context.Context, ...string) (check.Settings, error) {
		return check.Settings{Values: goodSettings, Said: []string{said}}, nil
	}
	w := world{ca: newAuthority(), zones: oneMX, postconf: postconf}
	r := w.run(t, "example.com")
	if text := r.Text(); !strings.Contains(text, "\n  says     "+said+"\n") {
		t.Errorf("not shown in:\n%s", text)
	}
	if !strings.Contains(r.JSON(), said) {
		t.Error("not in the JSON object")
	}
}

// Mail hosts are told the name that Postfix tells them.
func TestPostfixName(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change map[string]string
		want   string
	}{
		{"set", map[string]string{"smtp_helo_name": "out.example.com", "myhostname": "relay.example.com"}, "out.example.com"},
		{"of the host", map[string]string{"smtp_helo_name": "", "myhostname": "relay.example.com"}, "relay.example.com"},
		{"neither", nil, ""},
		{"no name", map[string]string{"smtp_helo_name": "a b\r\nDATA", "myhostname": "relay.example.com"}, "relay.example.com"},
	} {
		if got := check.PostfixName(t.Context(), settings(tt.change)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := check.PostfixName(t.Context(), nil); got != "" {
		t.Errorf("without Postfix: got %q", got)
	}
}

func TestPostfixRoots(t *testing.T) {
	ca := newAuthority()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	w := world{ca: ca}
	alone := check.PostfixRoots(t.Context(), settings(map[string]string{"smtp_tls_CAfile": file}))
	if !alone.Equal(w.roots()) {
		t.Error("the file of Postfix is not what is trusted")
	}
	added := check.PostfixRoots(t.Context(), settings(map[string]string{"smtp_tls_CAfile": file, "tls_append_default_CA": "yes"}))
	none := check.PostfixRoots(t.Context(), settings(map[string]string{"smtp_tls_CAfile": ""}))
	if added.Equal(none) {
		t.Error("the file of Postfix is not added to the authorities of the system")
	}
	dir, name := filepath.Split(file)
	if inQueue := check.PostfixRoots(t.Context(), settings(map[string]string{"smtp_tls_CAfile": name, "queue_directory": dir})); !inQueue.Equal(w.roots()) {
		t.Error("a file within the queue directory of Postfix is not what is trusted")
	}
	// OpenSSL reads it, and nobody here knows what is in it.
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if unknown := check.PostfixRoots(t.Context(), settings(map[string]string{"smtp_tls_CAfile": file})); !unknown.Equal(none) {
		t.Error("of a file that is not understood, nobody is trusted")
	}
}

// The names of the JSON object are an interface.
func TestJSON(t *testing.T) {
	ca := newAuthority()
	w := world{ca: ca, zones: announced + twoMX, web: file(onlyMX1), postconf: settings(nil), daemon: memory{},
		mail: map[string]*mailHost{"198.51.100.1:25": {cert: ca.leaf(nil, "mx1.example.com")}}}
	var got struct {
		Key, Domain, Outcome, Summary, Remedy string
		Because, Here                         []string
		Answers                               []struct{ Map, Reply string }
		DNSServers                            []struct{ Address, Test string } `json:"dns_servers"`
		Lookups                               []struct {
			Name, Type, Security string
			TTL, Took            float64
			Records              []string
		}
		STS struct {
			Record string
			Fetch  struct {
				URL, TLS, Text string
				Status         int
				Certificates   []struct{ Names []string }
			}
			Policy struct {
				Mode string
				MX   []string
			}
		} `json:"mta_sts"`
		Hosts []struct {
			Name     string
			InPolicy bool `json:"in_policy"`
			SMTP     struct {
				Delivers bool
				Error    string
			}
		} `json:"mail_hosts"`
		Postfix   struct{ Settings map[string]string }
		Daemon    struct{ Lines []string }
		Exception struct{ Line, Setting string }
	}
	if err := json.Unmarshal([]byte(w.run(t, "example.com").JSON()), &got); err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"key":       got.Key == "example.com" && got.Domain == "example.com",
		"outcome":   got.Outcome == "authenticated" && got.Summary != "" && len(got.Because) > 0,
		"answers":   len(got.Answers) == 5 && got.Answers[0].Map == "policy" && got.Answers[0].Reply == "OK secure match=mx1.example.com servername=hostname",
		"servers":   len(got.DNSServers) == 1 && got.DNSServers[0].Test == "passed",
		"lookups":   len(got.Lookups) > 5 && got.Lookups[0].Security == "insecure" && got.Lookups[0].Took > 0,
		"record":    got.STS.Record == "found",
		"fetch":     got.STS.Fetch.Status == 200 && got.STS.Fetch.Text == onlyMX1 && len(got.STS.Fetch.Certificates) == 1 && got.STS.Fetch.TLS == "TLS 1.3",
		"policy":    got.STS.Policy.Mode == "enforce" && len(got.STS.Policy.MX) == 1,
		"hosts":     len(got.Hosts) == 2 && got.Hosts[0].InPolicy && !got.Hosts[1].InPolicy,
		"smtp":      got.Hosts[0].SMTP.Delivers && !got.Hosts[1].SMTP.Delivers && got.Hosts[1].SMTP.Error != "",
		"postfix":   got.Postfix.Settings["mail_version"] == "3.10.5",
		"daemon":    len(got.Daemon.Lines) == 1,
		"exception": got.Exception.Line == "example.com  may",
	} {
		if !ok {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
