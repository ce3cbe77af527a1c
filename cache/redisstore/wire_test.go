package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
)

// Replies that a server gives, and those that none does, with the reason.
var (
	sound = []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$3\r\nabc\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n", "*2\r\n*1\r\n:1\r\n*2\r\n+a\r\n*0\r\n+OK\r\n",
	}
	unsound = map[string]string{
		"no type":               "x\r\n",
		"an empty line":         "\r\n",
		"a version 3":           "%1\r\n+a\r\n+b\r\n",
		"HTTP":                  "HTTP/1.1 400 Bad Request\r\n\r\n",
		"no length":             "$\r\n",
		"a length in words":     "$many\r\n",
		"a negative length":     "$-2\r\n",
		"a huge string":         "$9223372036854775807\r\n",
		"more than any string":  "$999999999999999999999999999999\r\n",
		"a long string":         "$536870912\r\n",
		"a huge array":          "*9223372036854775807\r\n",
		"many arrays":           strings.Repeat("*60000\r\n", 2),
		"deep arrays":           strings.Repeat("*1\r\n", 1000),
		"deep arrays, at last":  strings.Repeat("*2\r\n:1\r\n", 1000),
		"a line without an end": "+" + strings.Repeat("x", 2*maxLine),
	}
)

func TestFraming(t *testing.T) {
	for _, text := range sound {
		var whole, single framing
		if err := whole.follow([]byte(text + text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		for i := range len(text) {
			if err := single.follow([]byte(text)[i : i+1]); err != nil {
				t.Fatalf("%q, byte by byte: %v", text, err)
			}
		}
		if whole.sum != 0 || len(whole.open) != 0 || whole.skip != 0 || single.sum != 0 {
			t.Errorf("%q: something is outstanding: %+v", text, whole)
		}
	}
	for name, text := range unsound {
		var f framing
		if err := f.follow([]byte(text)); !errors.Is(err, errNotRedis) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, text := range sound {
		rd := bufio.NewReader(iotest.OneByteReader(strings.NewReader(text)))
		var answer answerError
		if r, err := readReply(rd, 0); err != nil && !errors.As(err, &answer) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
	for name, text := range unsound {
		if r, err := readReply(bufio.NewReader(strings.NewReader(text)), 0); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	long := "*3\r\n+message\r\n+c\r\n$5000\r\n" + strings.Repeat("x", 5000) + "\r\n+next\r\n"
	rd := bufio.NewReader(strings.NewReader(long))
	if r, err := readReply(rd, 0); err != nil || len(r.items) != 3 || r.items[2].text != "" {
		t.Errorf("a long text: %+v, %v", r, err)
	}
	if r, err := readReply(rd, 0); err != nil || r.text != "next" {
		t.Errorf("after a long text: %+v, %v", r, err)
	}
}

// FuzzReply: nothing that a server says makes the guard or the reader panic or
// go beyond their limits.
func FuzzReply(f *testing.F) {
	for _, text := range sound {
		f.Add([]byte(text))
	}
	for _, text := range unsound {
		f.Add([]byte(text[:min(len(text), 64)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var g framing
		_ = g.follow(b) // must not panic
		if g.sum < 0 || len(g.open) > maxDepth+1 {
			t.Errorf("%+v", g)
		}
		rd := bufio.NewReader(bytes.NewReader(b))
		r, err := readReply(rd, 0)
		if err == nil && (len(r.items) > maxItems || len(r.text) > maxBulk) {
			t.Errorf("%+v", r)
		}
	})
}

// A server that says anything at all stops calls, and nothing else.
func TestHostileServer(t *testing.T) {
	for name, text := range unsound {
		t.Run(name, func(t *testing.T) {
			s := against(t, text)
			_, err := s.Load(t.Context(), storetest.Domain(t, "a.example"))
			if err == nil || errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
				t.Errorf("Load: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := s.subscribe(ctx); err == nil {
				t.Error("the subscription has ended without an error")
			}
		})
	}
}

// against opens a store whose server says the same to everything.
func against(t *testing.T, text string) *Store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text) // The client may have gone.
			_, _ = conn.Read(make([]byte, 1024))
			conn.Close()
		}
	}()
	s, err := Open(Options{URL: &url.URL{Scheme: "redis", Host: l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		l.Close()
		<-done
	})
	return s
}
