package check_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"tlspolicyd/internal/check"
	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// firstLines returns the first five lines.
func firstLines(text string) string {
	lines := strings.SplitAfterN(text, "\n", 6)
	return strings.Join(lines[:min(5, len(lines))], "")
}

func TestKindsOfDomains(t *testing.T) {
	ca := newAuthority()
	for _, tt := range kinds(ca) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.world.ca = ca
			if tt.key == "" {
				tt.key = "example.com"
			}
			r := tt.world.run(t, tt.key)
			if r.Conclusion.Outcome != tt.want {
				t.Errorf("outcome: got %v, want %v", r.Conclusion.Outcome, tt.want)
			}
			text := r.Text()
			for _, s := range tt.says {
				if !strings.Contains(firstLines(text), s) {
					t.Errorf("the first lines do not say %q:\n%s", s, text)
				}
			}
			if r.JSON() == "" {
				t.Error("no JSON")
			}
		})
	}
}

// What the check says and what the daemon answers never contradict each other.
func TestAuthenticatedIsWhatTheMapsSay(t *testing.T) {
	ca := newAuthority()
	for _, tt := range kinds(ca) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.world.ca = ca
			if tt.key == "" {
				tt.key = "example.com"
			}
			r := tt.world.run(t, tt.key)
			replies := make(map[string]string)
			for _, a := range r.Answers {
				replies[a.Map] = a.Reply.String()
			}
			binds := strings.HasPrefix(replies["policy"], "OK ") || replies["policy-dane"] == "OK dane-only"
			if r.Conclusion.Outcome == check.Authenticated && !binds {
				t.Errorf("authenticated, but the answers are %q", replies)
			}
			if r.Conclusion.Outcome == check.Unauthenticated && binds {
				t.Errorf("not authenticated, but the answers are %q", replies)
			}
		})
	}
}

func TestEveryStepIsShown(t *testing.T) {
	w := world{ca: newAuthority(), zones: signed + announced + "_mta-sts.example.com. TXT \"other\"\n" + oneMX + tlsa1 + usable,
		web: file("version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: *.example.net\nmax_age: 600\n")}
	text := w.run(t, "example.com").Text()
	for _, want := range []string{
		"\n  policy              OK dane-only\n",
		"\n  policy-dane         OK dane-only\n",
		"\n  postfix             OK secure match=mx1.example.com:.example.net servername=hostname\n",
		" passed\n",
		"\n  TXT      _mta-sts.example.com  \"v=STSv1; id=1;\"; \"other\" (TTL 300 s, secure, ",
		"\n  A        mta-sts.example.com  198.41.0.4 (TTL 300 s, secure, ",
		"\n  AAAA     mta-sts.example.com  none (TTL 60 s, secure, ",
		"\n  fetch    https://mta-sts.example.com/.well-known/mta-sts.txt (",
		"\n  connect  198.41.0.4:443: connected (",
		"\n  TLS      TLS 1.3 (",
		`"CN=host" by "CN=Test root", `,
		"for mta-sts.example.com",
		"\n  HTTP     status 200, media type \"text/plain\"\n",
		"\n         2  mode: enforce\n",
		"\n         5  max_age: 600\n            ^ note: a policy that lives less than a day protects little",
		"instead: max_age: 604800\n",
		"\n  policy   mode enforce, max_age 600 s (until ",
		"\n  MX       example.com  10 mx1.example.com. (TTL 300 s, secure, ",
		"\n     10  mx1.example.com  in the policy (mx1.example.com), DANE usable, at 198.51.100.1\n",
		"\n  TLSA     _25._tcp.mx1.example.com  3 1 1 01234",
		"\n  A        mx1.example.com  198.51.100.1 (TTL 300 s, secure, ",
		"\n  table    example.com  may\n",
		"\n  main.cf  smtp_tls_policy_maps = texthash:/etc/postfix/tls_exceptions, socketmap:inet:127.0.0.1:8461:policy\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// What a domain publishes cannot play with the terminal, in neither output.
func TestOutputIsFitForATerminal(t *testing.T) {
	ca := newAuthority()
	w := world{ca: ca, zones: "_mta-sts.example.com. TXT \"v=STSv1; id=1;\"\n_mta-sts.example.com. TXT \"\u202eother\u009b\"\nmta-sts.example.com. A 198.41.0.4\n" + oneMX,
		web:  file("version: STSv1\n\x1b[31mred\x07: 1\nmode: \u202eenforce\u009b2J\nmx: mx1.example.com\x00\nmax_age: 1\n\u2066\x7f\xff\xfe\n", "Content-Type", "text/plain; \u202e"),
		mail: map[string]*mailHost{"198.51.100.1:25": {greeting: "554 \u202e\u009b31m\x1b[0m\r\n"}}}
	r := w.run(t, "example.com")
	text, object := r.Text(), r.JSON()
	for name, out := range map[string]string{"text": text, "JSON": object} {
		odd := func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }
		if i := strings.IndexFunc(out, odd); i >= 0 {
			t.Errorf("%s: %q", name, out[max(0, i-20):i+20])
		}
	}
	if !strings.Contains(text, `\u001b[31mred\u0007: 1`) {
		t.Errorf("the line is not shown:\n%s", text)
	}
	var got struct {
		STS struct{ Fetch struct{ Text string } } `json:"mta_sts"`
	}
	if err := json.Unmarshal([]byte(object), &got); err != nil || !strings.Contains(got.STS.Fetch.Text, "mode: \u202eenforce\u009b2J\n") {
		t.Errorf("got %q, %v, want the policy as it was published", got.STS.Fetch.Text, err)
	}
}

func fact(text string, age time.Duration) policy.STS {
	p, err := mtasts.ParsePolicy(text)
	if err != nil {
		panic(err)
	}
	return policy.STS{Policy: p, ID: "9", Fetched: time.Now().Add(-age)}
}

func TestWhatTheDaemonRemembers(t *testing.T) {
	ca := newAuthority()
	for _, tt := range []struct {
		name  string
		world world
		want  check.Outcome
		says  []string
	}{
		{"a policy that is gone", world{zones: oneMX, daemon: memory{sts: fact(enforce, time.Hour)}}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "the daemon remembers this policy until ", "the network says now: mail is not authenticated", "OK secure match=mx1.example.com:mx2.example.com"}},
		{"a policy that cannot be fetched any more", world{zones: announced + oneMX, daemon: memory{sts: fact(old, time.Hour)}}, check.Deferred,
			[]string{"mail is deferred: no mail host of the domain is in the MTA-STS policy", "the daemon remembers this policy"}},
		{"a policy, and no DNS", world{zones: oneMX, fault: fault(dnstest.Any, dnstest.Any, dnstest.Drop), daemon: memory{sts: fact(enforce, time.Hour)}}, check.Unknown,
			[]string{"mail waits: the domain enforces MTA-STS, and it cannot be known whether DANE goes before it", "the daemon remembers this policy"}},
		{"a policy that has expired", world{zones: oneMX, daemon: memory{sts: fact(enforce, 605000*time.Second)}}, check.Unauthenticated,
			[]string{"mail is not authenticated"}},
		{"another policy", world{zones: announced + twoMX, web: file(enforce), daemon: memory{sts: fact(old, time.Hour)}}, check.Authenticated,
			[]string{"the daemon still enforces another policy (id 9, until ", "tlspolicyd cache refresh example.com"}},
		{"nothing yet", world{zones: announced + twoMX, web: file(enforce), daemon: memory{}}, check.Authenticated,
			[]string{"the daemon does not enforce this policy yet"}},
		{"the same", world{zones: announced + twoMX, web: file(enforce), daemon: memory{sts: fact(enforce, time.Hour)}}, check.Authenticated,
			[]string{"a line of the daemon"}},
		{"a withdrawn policy", world{zones: announced + oneMX, web: file(noneP), daemon: memory{sts: fact(enforce, time.Hour)}}, check.Unauthenticated,
			[]string{"mode none", "the daemon still enforces another policy"}},
		{"a damaged store", world{zones: oneMX, daemon: memory{sts: policy.STS{Lost: true}}}, check.Unknown,
			[]string{"mail waits, for a minute at most: the daemon's store was damaged", "the network says now: mail is not authenticated", "  policy              TEMP "}},
		{"a damaged store, and a policy on the network", world{zones: announced + oneMX, web: file(enforce), daemon: memory{sts: policy.STS{Lost: true}}}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}},
		{"no view", world{zones: announced + twoMX, web: file(enforce), daemon: memory{err: errors.New("permission denied")}}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "its view cannot be read: permission denied"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.world.ca = ca
			r := tt.world.run(t, "example.com")
			if r.Conclusion.Outcome != tt.want {
				t.Errorf("outcome: got %v, want %v", r.Conclusion.Outcome, tt.want)
			}
			for _, s := range tt.says {
				if text := r.Text(); !strings.Contains(text, s) {
					t.Errorf("does not say %q:\n%s", s, text)
				}
			}
			if tt.name == "the same" && len(r.Conclusion.Here) > 0 {
				t.Errorf("says of two equal policies: %q", r.Conclusion.Here)
			}
		})
	}
}

// A check that nobody waits for any more ends.
func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := world{ca: newAuthority(), zones: announced + oneMX, web: http.HandlerFunc(hang)}
	r := w.runIn(ctx, t, "example.com")
	if r.Conclusion.Outcome == check.Authenticated || r.Conclusion.Outcome == check.Unauthenticated {
		t.Errorf("got %v of a look that was given up", r.Conclusion.Outcome)
	}
}

// A fetch that fails for want of something on this machine is not laid at the
// domain's door.
func TestFetchesThatFailHere(t *testing.T) {
	t.Setenv("SSL_CERT_FILE", t.TempDir()+"/none")
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	proxy := &url.URL{Scheme: "http", Host: "proxy.example.net:3128"}
	for name, tt := range map[string]struct {
		world world
		says  []string
	}{
		"no authorities":      {world{web: file(enforce), systemRoots: true}, []string{"no root certificates", "remedy   give this machine certificates of authorities"}},
		"a proxy that is off": {world{proxy: proxy}, []string{"connecting to the proxy proxy.example.net:3128", "remedy   see that the proxy"}},
		"a proxy that denies": {world{web: file(enforce), proxy: proxy}, []string{"asking the proxy proxy.example.net:3128", "remedy   see that the proxy"}},
	} {
		tt.world.ca, tt.world.zones = newAuthority(), announced+oneMX
		text := tt.world.run(t, "example.com").Text()
		for _, s := range tt.says {
			if !strings.Contains(firstLines(text), s) {
				t.Errorf("%s: the first lines do not say %q:\n%s", name, s, text)
			}
		}
	}
}
