//go:build e2e

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/cache"
	"tlspolicyd/test/redis"
)

func wantMessages(t *testing.T, entries []observer.LoggedEntry, want ...string) {
	t.Helper()
	var got []string
	for _, e := range entries {
		got = append(got, e.Message)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestOtherTypesUnderAKey(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	until(t, "in reach", isUp(s))
	r := record(t, "a.example")
	key := s.key(r.Domain)
	for name, command := range map[string][]string{
		"a list":        {"RPUSH", key, "x"},
		"a set":         {"SADD", key, "x"},
		"a sorted set":  {"ZADD", key, "1", "x"},
		"a hash":        {"HSET", key, "x", "y"},
		"a stream":      {"XADD", key, "*", "x", "y"},
		"a HyperLogLog": {"PFADD", key, "x"},
		"a bitmap":      {"SETBIT", key, "100", "1"},
		"a number":      {"SET", key, "1"},
		"a new line":    {"SET", key, "\n"},
	} {
		server.Do("DEL", key)
		server.Do(command...)
		if got, err := s.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("%s: Load = %+v, %v, want ErrDamaged", name, got, err)
		}
		if !s.Status().Up || s.Status().Err != nil {
			t.Errorf("%s: Status = %+v", name, s.Status())
		}
		mustSave(t, s, r)
		wantLoad(t, s, r)
		if server.Do("TTL", key) == "-1" {
			t.Errorf("%s: what replaced it never ends", name)
		}
	}
}

// forge puts a value in the place of a domain's.
func forge(t *testing.T, s *Store, r cache.Record, value string) {
	t.Helper()
	if err := s.db().Set(t.Context(), s.key(r.Domain), value, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestForgedFirstLines(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	a, b := start(t, at(t, server)), start(t, at(t, server))
	awaitTold(t, a, b)
	r := record(t, "a.example")
	value, err := encodeValue(&r)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(value), "\n")
	now := time.Now()
	for name, line := range map[string]string{
		"time of tomorrow":     fmt.Sprintf("1 %d %s", now.Add(24*time.Hour).Unix(), digest(&r)),
		"time in six minutes":  fmt.Sprintf("1 %d %s", now.Add(6*time.Minute).Unix(), digest(&r)),
		"huge time":            "1 99999999999999999999999 " + digest(&r),
		"endless time":         "1 " + strings.Repeat("9", 400) + " " + digest(&r),
		"no number":            "1 now " + digest(&r),
		"negative time":        "1 -1 " + digest(&r),
		"hexadecimal":          "1 0x7fffffffff " + digest(&r),
		"time nan":             "1 nan " + digest(&r),
		"no digest":            fmt.Sprintf("1 %d ", now.Unix()),
		"another version":      fmt.Sprintf("2 %d %s", now.Unix(), digest(&r)),
		"no version":           fmt.Sprintf("%d %s", now.Unix(), digest(&r)),
		"nothing":              "",
		"a first line of 1 KB": "1 " + strings.Repeat(" ", 1000),
	} {
		forge(t, a, r, line+"\n"+body)
		if got, err := a.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("%s: Load = %+v, %v, want ErrDamaged", name, got, err)
		}
		mustSave(t, a, r)
		wantLoad(t, b, r)
	}
}

// A stranger who knows the form can hold a place for five minutes, no longer.
func TestForgedRecordOfTheNearFuture(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	until(t, "in reach", isUp(s))
	forged, r := record(t, "a.example"), record(t, "a.example")
	forged.ID, forged.Text = "forged", "version: STSv1\nmode: none\nmax_age: 31557600\n"
	for ahead, want := range map[time.Duration]string{
		4 * time.Minute: forged.ID, // as the clock of another relay may be
		6 * time.Minute: r.ID,
	} {
		forged.Fetched = time.Now().Add(ahead).Truncate(time.Second)
		value, err := encodeValue(&forged)
		if err != nil {
			t.Fatal(err)
		}
		forge(t, s, forged, string(value))
		mustSave(t, s, r)
		if got, err := s.Load(t.Context(), r.Domain); err != nil || got.ID != want {
			t.Errorf("%s ahead: Load = %+v, %v, want the id %s", ahead, got, err, want)
		}
	}
}

func TestRecordOfAnotherDomain(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	s := start(t, at(t, server))
	r, other := record(t, "a.example"), record(t, "b.example")
	value, err := encodeValue(&other)
	if err != nil {
		t.Fatal(err)
	}
	forge(t, s, r, string(value))
	if got, err := s.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("Load = %+v, %v, want ErrDamaged", got, err)
	}
	mustSave(t, s, r)
	wantLoad(t, s, r)
}

func TestHugeValueIsNotRead(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	p := startProxy(t, server.Addr)
	s := open(t, Options{URL: mustURL(t, "redis://"+p.addr)})
	r := record(t, "a.example")
	key := s.key(r.Domain)
	server.Do("SETRANGE", key, "20000000", "x")
	before := p.read.Load()
	if got, err := s.Load(t.Context(), r.Domain); !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("Load = %+v, %v, want ErrDamaged", got, err)
	}
	mustSave(t, s, r)
	if n := p.read.Load() - before; n > maxValue+4096 {
		t.Errorf("read %d bytes of a value of 20 MB", n)
	}
	wantLoad(t, s, r)
}

func publish(t *testing.T, s *Store, text string) {
	t.Helper()
	if err := s.db().Publish(t.Context(), s.channel(), text).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestStrangeMessages(t *testing.T) {
	server := redis.Start(t, redis.Redis)
	a, b := start(t, at(t, server)), start(t, at(t, server))
	awaitTold(t, a, b)
	for _, text := range []string{
		"", "x", "1", "1 x", "1 x ", "1  a.example", "2 x a.example", "1 x A.example", "1 x a.example.", "1 x a..b",
		"1 x a.example b.example", "1 x a.example\n", "\x00\xff", "1 x " + strings.Repeat("a", 300),
	} {
		publish(t, a, text)
	}
	// More than a line, more than a text, more than all buffers.
	for _, size := range []int{5_000, 100_000, maxBulk} {
		publish(t, a, strings.Repeat("x", size))
	}
	publish(t, a, "1 stranger last.example")
	for {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		news, err := b.Next(ctx)
		cancel()
		switch {
		case err != nil:
			t.Fatalf("the last message was not heard: %v", err)
		case news.Behind, news.Changed == domainOf(t, "told.example"):
			continue
		case news.Changed != domainOf(t, "last.example"):
			t.Errorf("told of %s", news.Changed)
			continue
		}
		return
	}
}
