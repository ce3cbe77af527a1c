package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

func TestMessages(t *testing.T) {
	longest := strings.Repeat("a23456789.", 24) + "example.test0"
	for _, name := range []string{"example.com", "xn--bcher-kva.example", longest} {
		text := message("ABCDEFGHIJKLMNOPQRSTUVWXYZ", storetest.Domain(t, name))
		sender, domain, err := parseMessage(text)
		if err != nil || sender != "ABCDEFGHIJKLMNOPQRSTUVWXYZ" || domain.String() != name {
			t.Errorf("%q: %q, %s, %v", text, sender, domain, err)
		}
	}
}

func TestMessagesThatAreNotOurs(t *testing.T) {
	for _, text := range []string{
		"", " ", "1", "1 x", "1 x ", "1  a.example", "2 x a.example", "1 x a.example ", "1 x a.example\n", "1 x y a.example",
		"1 x A.example", "1 x a.example.", "1 x .example", "1 x a..example", "1 x b\xfccher.example", "1 x [192.0.2.1]",
		"1 x a.example:25", "1 " + strings.Repeat("x", maxMessage) + " a.example",
	} {
		if sender, domain, err := parseMessage(text); err == nil {
			t.Errorf("%q: %q, %s", text, sender, domain)
		}
	}
}

// FuzzParseMessage: what is accepted is what would have been written.
func FuzzParseMessage(f *testing.F) {
	f.Add("1 ABC example.com")
	f.Add("1 ABC EXAMPLE.com.")
	f.Add("2 ABC example.com")
	f.Add("1  \x00")
	f.Fuzz(func(t *testing.T, text string) {
		sender, domain, err := parseMessage(text)
		if err != nil {
			return
		}
		if got := message(sender, domain); got != text {
			t.Errorf("%q is accepted, %q would have been written", text, got)
		}
		if len(text) > maxMessage {
			t.Errorf("%d bytes are accepted", len(text))
		}
	})
}

// offline is a store whose database is nowhere.
func offline(t *testing.T) *Store {
	t.Helper()
	s, err := Open(Options{URL: &url.URL{Scheme: "redis", Host: "127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNewsAreBounded(t *testing.T) {
	s := offline(t)
	for i := range maxNews + 100 {
		s.heard(message("other", storetest.Domain(t, fmt.Sprintf("d%d.example", i))))
		s.news.tellBehind()
	}
	changed, behind := 0, 0
	for range maxNews + 1 {
		news, err := s.Next(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case news.Behind:
			behind++
		case news.Changed != (policy.Domain{}):
			changed++
		}
	}
	if changed != maxNews || behind != 1 {
		t.Errorf("%d changed, %d behind, want %d and 1", changed, behind, maxNews)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if news, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next = %+v, %v", news, err)
	}
}

func TestOwnMessagesAreNoNews(t *testing.T) {
	s := offline(t)
	s.heard(message(s.id, storetest.Domain(t, "own.example")))
	s.heard("garbage")
	s.heard(message("other", storetest.Domain(t, "other.example")))
	news, err := s.Next(t.Context())
	if want := (cache.News{Changed: storetest.Domain(t, "other.example")}); err != nil || news != want {
		t.Errorf("Next = %+v, %v, want %+v", news, err, want)
	}
}

func TestTwoStoresAreTwoSenders(t *testing.T) {
	if a, b := offline(t), offline(t); a.id == b.id {
		t.Errorf("both are %q", a.id)
	}
}

func TestWhenRecordsMayBeMissing(t *testing.T) {
	var i identity
	for _, step := range []struct {
		name  string
		found identity
		want  bool
	}{
		{"first contact, nothing is known", identity{}, true},
		{"the server is known", identity{servers: "a"}, false},
		{"the marker is known", identity{servers: "a", marker: "m"}, false},
		{"the same", identity{servers: "a", marker: "m"}, false},
		{"nothing is known for once", identity{}, false},
		{"the same again", identity{servers: "a", marker: "m"}, false},
		{"restarted", identity{servers: "b", marker: "m"}, true},
		{"told once", identity{servers: "b", marker: "m"}, false},
		{"emptied", identity{servers: "b"}, false},
		{"emptied, and marked", identity{servers: "b", marker: "n"}, true},
		{"the servers of a cluster are others", identity{servers: "b c", marker: "n"}, true},
	} {
		if got := i.learn(step.found); got != step.want {
			t.Errorf("%s: %t", step.name, got)
		}
	}
}

func TestClockOfAServer(t *testing.T) {
	now := time.UnixMicro(1_767_225_600_000_000)
	for info, want := range map[string]time.Duration{
		"# Server\r\nserver_time_usec:1767225600000000\r\n": 0,
		"server_time_usec:1767225540000000\r\n":             -time.Minute,
		"server_time_usec:1767229200000000":                 time.Hour,
		"server_time_usec:9223372036854775807":              math.MaxInt64,
		"server_time_usec:soon\r\n":                         0,
		"redis_version:6.0.16\r\n":                          0,
	} {
		if got := clockAhead(info, now); got != want {
			t.Errorf("%q: %v, want %v", info, got, want)
		}
	}
}

func TestRunIDs(t *testing.T) {
	for info, want := range map[string]string{
		"# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ntcp_port:1\r\n": "abc",
		"run_id:abc":                  "abc",
		"# Server\r\nxrun_id:abc\r\n": "",
		"":                            "",
	} {
		if got := field(info, "run_id"); got != want {
			t.Errorf("%q: %q, want %q", info, got, want)
		}
	}
}
