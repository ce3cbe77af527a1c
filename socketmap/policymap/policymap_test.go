package policymap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/policymap"
	"tlspolicyd/socketmap/policymap/postfixsyntax"
)

// decider gives one verdict to all, and notes what it was asked.
type decider struct {
	verdict policy.Verdict

	mu    sync.Mutex
	asked []string
}

func (d *decider) Lookup(_ context.Context, _ time.Time, hop policy.NextHop, class policy.Class) policy.Verdict {
	d.mu.Lock()
	d.asked = append(d.asked, fmt.Sprintf("%s %d", hop, class))
	d.mu.Unlock()
	v := d.verdict
	v.Domain = hop.Domain
	return v
}

// requests notes what was counted.
type requests []string

func (r *requests) Requests(mapName, result string) func(time.Duration) {
	return func(took time.Duration) {
		*r = append(*r, mapName+" "+result)
		if took < 0 {
			*r = append(*r, took.String())
		}
	}
}

// serve asks h one question. What is in the buffer before is none of h's
// business.
func serve(t testing.TB, h *policymap.Handler, mapName, key string) socketmap.Reply {
	t.Helper()
	const before = "before"
	status, text := h.ServeSocketmap(context.Background(), socketmap.Request{Map: mapName, Key: key, Asked: time.Now()}, []byte(before))
	answer, ok := strings.CutPrefix(string(text), before)
	if !ok {
		t.Fatalf("the buffer holds %q", text)
	}
	return socketmap.Reply{Status: status, Text: answer}
}

func TestMaps(t *testing.T) {
	tests := []struct {
		name, label string
		class       policy.Class
		tlsrpt      bool
	}{
		{"policy", "policy", policy.ClassSTS, false},
		{"POLICY", "policy", policy.ClassSTS, false},
		{"policy-tlsrpt", "policy-tlsrpt", policy.ClassSTS, true},
		{"Policy-TLSRPT", "policy-tlsrpt", policy.ClassSTS, true},
		{"policy-dane", "policy-dane", policy.ClassDANE, false},
		{"QUERY", "policy-dane", policy.ClassDANE, false},
		{"query", "policy-dane", policy.ClassDANE, false},
		{"policy-dane-tlsrpt", "policy-dane-tlsrpt", policy.ClassDANE, true},
		{"QUERYwithTLSRPT", "policy-dane-tlsrpt", policy.ClassDANE, true},
		{"QUERYWITHTLSRPT", "policy-dane-tlsrpt", policy.ClassDANE, true},
		{"postfix", "postfix", policy.ClassSTSOnly, false},
		{"Postfix", "postfix", policy.ClassSTSOnly, false},
		{"test", "other", policy.ClassSTSOnly, false},
		{"", "other", policy.ClassSTSOnly, false},
		{"policy ", "other", policy.ClassSTSOnly, false},
		{"policy-", "other", policy.ClassSTSOnly, false},
		{"poſtfix", "other", policy.ClassSTSOnly, false},
		{"DUMP", "other", policy.ClassSTSOnly, false},
		{"PURGE", "other", policy.ClassSTSOnly, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &decider{verdict: enforce(t, "example.com", "mx: mx.example.com")}
			var counted requests
			h := policymap.New(d, policymap.Options{Metrics: &counted})
			got := serve(t, h, tt.name, "example.com")
			if want := fmt.Sprintf("example.com %d", tt.class); len(d.asked) != 1 || d.asked[0] != want {
				t.Errorf("the decider was asked for %q, want %q", d.asked, want)
			}
			if want := tt.label + " secure"; len(counted) != 1 || counted[0] != want {
				t.Errorf("counted %q, want %q", counted, want)
			}
			if has := strings.Contains(got.Text, "policy_type="); has != tt.tlsrpt || got.Status != socketmap.OK {
				t.Errorf("reply is %q", got)
			}
		})
	}
}

func TestUnknownMapsAreWarnedAboutOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := policymap.New(&decider{}, policymap.Options{Log: zap.New(core)})
	long := strings.Repeat("x", 10_000)
	for range 3 {
		for _, name := range []string{"policy", "query", "postfix", "test", long} {
			serve(t, h, name, ".com")
		}
	}
	if n := logs.Len(); n != 2 {
		t.Errorf("%d warnings, want 2: %v", n, logs.All())
	}
	if name := logs.All()[1].ContextMap()["map"].(string); len(name) > 300 {
		t.Errorf("a name of %d bytes is logged", len(name))
	}
	for i := range 100 {
		serve(t, h, fmt.Sprint("map", i), "")
	}
	if n := logs.Len(); n != 20 {
		t.Errorf("%d warnings, want 20", n)
	}
}

func TestResults(t *testing.T) {
	secure := enforce(t, "example.com", "mx: mx.example.com")
	tests := []struct {
		verdict policy.Verdict
		reply   string
		result  string
	}{
		{secure, "OK secure match=mx.example.com servername=hostname", "secure"},
		{policy.Verdict{Kind: policy.DANEOnly}, "OK dane-only", "dane_only"},
		{policy.Verdict{Kind: policy.DANEWhereFound}, "OK dane", "dane"},
		{policy.Verdict{Kind: policy.NotFound}, "NOTFOUND ", "notfound"},
		{policy.Verdict{Reason: "why"}, "TEMP why", "temp"},
		{policy.Verdict{Kind: policy.Secure}, "TEMP the policy names no MX host", "temp"},
	}
	for _, tt := range tests {
		t.Run(tt.result, func(t *testing.T) {
			var counted requests
			h := policymap.New(&decider{verdict: tt.verdict}, policymap.Options{Metrics: &counted})
			got := serve(t, h, "policy", "example.com")
			if got.String() != tt.reply {
				t.Errorf("got %q, want %q", got, tt.reply)
			}
			if want := "policy " + tt.result; len(counted) != 1 || counted[0] != want {
				t.Errorf("counted %q, want %q", counted, want)
			}
		})
	}
}

// Keys that are no next-hop are answered without the decider, and so without
// the DNS.
func TestBadKeysAreNotFound(t *testing.T) {
	d := &decider{verdict: enforce(t, "example.com", "mx: mx.example.com")}
	var counted requests
	h := policymap.New(d, policymap.Options{Metrics: &counted})
	for _, tt := range badKeys {
		got := serve(t, h, "policy", tt.key)
		if got.String() != "NOTFOUND " {
			t.Errorf("%s: got %q, want NOTFOUND", tt.name, got)
		}
	}
	if len(d.asked) > 0 {
		t.Errorf("the decider was asked for %q", d.asked)
	}
	if len(counted) != len(badKeys) || counted[0] != "policy notfound" {
		t.Errorf("counted %d requests, want %d", len(counted), len(badKeys))
	}
}

func TestSmartHostsOff(t *testing.T) {
	d := &decider{verdict: policy.Verdict{Kind: policy.DANEOnly}}
	h := policymap.New(d, policymap.Options{Keys: policymap.KeyRules{NoSmartHosts: true}})
	for key, want := range map[string]string{"[mail.example.com]:587": "NOTFOUND ", "mail.example.com:587": "OK dane-only"} {
		if got := serve(t, h, "policy", key); got.String() != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if len(d.asked) != 1 {
		t.Errorf("the decider was asked for %q", d.asked)
	}
}

func TestUnlistedSmartHostIsWarnedAbout(t *testing.T) {
	tests := []struct {
		name, key, file string
		kind            policy.Kind
		want            int
	}{
		{"listed", "[mail.example.com]", "mx: mail.example.com", policy.Secure, 0},
		{"listed by a wildcard", "[mail.example.com]:587", "mx: *.example.com", policy.Secure, 0},
		{"listed late", "[mail.example.com]", "mx: a.example\nmx: mail.example.com", policy.Secure, 0},
		{"not listed", "[mail.example.com]", "mx: mx.example.com", policy.Secure, 1},
		{"one label too many for the wildcard", "[a.mail.example.com]:587", "mx: *.example.com", policy.Secure, 1},
		{"no smart host", "mail.example.com", "mx: mx.example.com", policy.Secure, 0},
		{"no policy that enforces", "[mail.example.com]", "mx: mx.example.com", policy.NotFound, 0},
		{"DANE goes before it", "[mail.example.com]", "mx: mx.example.com", policy.DANEOnly, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			v := enforce(t, "example.com", tt.file)
			v.Kind = tt.kind
			h := policymap.New(&decider{verdict: v}, policymap.Options{Log: zap.New(core)})
			for range 3 {
				serve(t, h, "policy", tt.key)
			}
			if n := logs.Len(); n != tt.want {
				t.Errorf("%d warnings, want %d: %v", n, tt.want, logs.All())
			}
		})
	}
}

func TestShortenedIsWarnedAboutOnce(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := policymap.New(&decider{verdict: enforce(t, "example.com", manyHosts(1000, ""))}, policymap.Options{Log: zap.New(core)})
	for range 3 {
		serve(t, h, "policy-tlsrpt", "example.com")
		serve(t, h, "policy", "example.net")
	}
	lines := logs.All()
	if len(lines) != 1 || lines[0].ContextMap()["domain"] != "example.com" || lines[0].ContextMap()["left_out"] != "policy_string" {
		t.Errorf("log is %v, want one warning", lines)
	}
}

// The warnings about domains are bounded, whatever is asked.
func TestWarningsAreBounded(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := policymap.New(&decider{verdict: enforce(t, "example.com", "mx: mx.example.com")}, policymap.Options{Log: zap.New(core)})
	for i := range 3000 {
		serve(t, h, "policy", fmt.Sprintf("[h%d.example.com]", i))
	}
	if n := logs.Len(); n != 1000 {
		t.Errorf("%d warnings, want 1000", n)
	}
}

// A reply is made anew each time: no attribute adds up.
func TestRepliesDoNotAddUp(t *testing.T) {
	h := policymap.New(&decider{verdict: enforce(t, "example.com", "mx: mx.example.com")}, policymap.Options{})
	first := serve(t, h, "policy-tlsrpt", "example.com")
	for range 1000 {
		if got := serve(t, h, "policy-tlsrpt", "example.com"); got != first {
			t.Fatalf("got %q, at first %q", got, first)
		}
	}
	parse(t, first, postfixsyntax.Postfix310)
	for _, name := range []string{"policy_type=", "policy_domain=", "servername=", "policy_string ="} {
		if n := strings.Count(first.Text, name); n != 1 {
			t.Errorf("%s is there %d times", name, n)
		}
	}
	if strings.Contains(first.Text, "policy_ttl") {
		t.Error("policy_ttl is there")
	}
}

// connect returns a client of a server with the handler.
func connect(t testing.TB, h socketmap.Handler) *socketmap.Client {
	t.Helper()
	l, err := socketmap.Listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	srv := &socketmap.Server{Handler: h}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	c, err := socketmap.Dial(context.Background(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		srv.Close()
		if err := <-done; !errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return c
}

// From the wire and back.
func TestOverTheWire(t *testing.T) {
	d := &decider{verdict: enforce(t, "example.com", "mx: mx.example.com\nmx: *.example.net\n")}
	c := connect(t, policymap.New(d, policymap.Options{}))
	const secure = "OK secure match=mx.example.com:.example.net servername=hostname"
	for _, tt := range []struct{ mapName, key, want string }{
		{"policy", "example.com", secure},
		{"policy", ".com", "NOTFOUND "},
		{"QUERY", "EXAMPLE.COM.", secure},
		{"queryWithTLSRPT", "[example.com]:submission", secure + " policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com mx_host_pattern=*.example.net" +
			" { policy_string = mx: mx.example.com } { policy_string = mx: *.example.net }"},
		{"policy", strings.Repeat("k", 10_000), "NOTFOUND "},
		{"policy", strings.Repeat("k", 10_001), "NOTFOUND "},
	} {
		got, err := c.Lookup(t.Context(), tt.mapName, tt.key)
		if err != nil || got.String() != tt.want {
			t.Errorf("%s %.30q: got %q, %v, want %q", tt.mapName, tt.key, got, err, tt.want)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if want := "example.com 2,example.com 3,[example.com]:587 3"; strings.Join(d.asked, ",") != want {
		t.Errorf("the decider was asked for %q, want %s", d.asked, want)
	}
}

// fixed is a decider that does not allocate.
type fixed struct{ verdict policy.Verdict }

func (d fixed) Lookup(context.Context, time.Time, policy.NextHop, policy.Class) policy.Verdict {
	return d.verdict
}

func BenchmarkHandler(b *testing.B) {
	h := policymap.New(fixed{enforce(b, "example.com", "mx: mx1.example.com\nmx: *.example.net\n")}, policymap.Options{})
	for _, req := range []socketmap.Request{{Map: "policy", Key: "example.com"}, {Map: "policy", Key: ".com"}} {
		b.Run(req.Key, func(b *testing.B) {
			b.ReportAllocs()
			var text []byte
			for b.Loop() {
				req.Asked = time.Now()
				_, text = h.ServeSocketmap(context.Background(), req, text[:0])
			}
		})
	}
}

// BenchmarkHit is a question about what is known, over a socket.
func BenchmarkHit(b *testing.B) {
	h := policymap.New(fixed{enforce(b, "example.com", "mx: mx1.example.com\nmx: *.example.net\n")}, policymap.Options{})
	c := connect(b, h)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Lookup(context.Background(), "policy", "example.com"); err != nil {
			b.Fatal(err)
		}
	}
}
