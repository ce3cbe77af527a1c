package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
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
		"a length of zeros":     "$" + strings.Repeat("0", 30) + "5\r\nhello\r\n",
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

// FuzzFraming: nothing that a server says makes the guard panic, or follow it
// beyond the limits.
func FuzzFraming(f *testing.F) {
	for _, text := range sound {
		f.Add([]byte(text))
	}
	for _, text := range unsound {
		f.Add([]byte(text[:min(len(text), 64)]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole, single framing
		err := whole.follow(b)
		if whole.sum < 0 || whole.sum > 2*maxElements || len(whole.open) > maxDepth+1 || whole.skip > maxBulk+2 {
			t.Errorf("%+v", whole)
		}
		for i := range b {
			if single.follow(b[i:i+1]) != nil {
				if err == nil {
					t.Errorf("byte %d is wrong only by itself", i)
				}
				return
			}
		}
		if err != nil {
			t.Errorf("%v, but not byte by byte", err)
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

// What a server announces is not believed: no room is made for it.
func TestAnnouncedButNotSent(t *testing.T) {
	for name, text := range map[string]string{
		"a long string":   "$536870912\r\n",
		"in a message":    "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$536870912\r\n",
		"a large array":   "*50000000\r\n",
		"behind zeros":    "$" + strings.Repeat("0", 30) + "536870912\r\n",
		"array of zeros":  "*" + strings.Repeat("0", 30) + "50000000\r\n",
		"in half a reply": "+PONG\r\n$100\r\n|$536870912\r\n", // the rest comes too late
	} {
		t.Run(name, func(t *testing.T) {
			s := against(t, "-ERR unknown command\r\n|"+text) // to HELLO, and then
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := s.Load(t.Context(), storetest.Domain(t, "a.example")); err == nil {
				t.Error("Load: no error")
			}
			if err := s.subscribe(t.Context()); err == nil {
				t.Error("the subscription has ended without an error")
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

// against opens a store whose server says the same to everybody: what stands
// before each | at once, after something was asked, and then more when the
// subscription has lost its patience for the first time.
func against(t *testing.T, text string) *Store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { say(conn, strings.Split(text, "|")) })
		}
	})
	s, err := Open(Options{URL: &url.URL{Scheme: "redis", Host: l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		l.Close()
		wg.Wait()
	})
	return s
}

// say says the parts, each after something was heard or a while has passed.
func say(conn net.Conn, parts []string) {
	defer conn.Close()
	for _, part := range append(parts, "") {
		_ = conn.SetReadDeadline(time.Now().Add(1200 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1024)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		_, _ = io.WriteString(conn, part) // The client may have gone.
	}
}
