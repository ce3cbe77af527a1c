package socketmap_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
)

// pipeListener is a listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial returns the client's end of a new connection that was accepted.
func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// echo answers with what it was asked.
var echo = socketmap.HandlerFunc(func(_ context.Context, req socketmap.Request) socketmap.Reply {
	return socketmap.Reply{Status: socketmap.OK, Text: req.Map + "|" + req.Key}
})

// start serves, and ends it after the test.
func start(t *testing.T, srv *socketmap.Server) *pipeListener {
	t.Helper()
	l := newPipeListener()
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve returned %v, want ErrServerClosed", err)
		}
	})
	return l
}

// serveTCP serves on a real socket until the test ends, and returns its
// address.
func serveTCP(t testing.TB, srv *socketmap.Server) string {
	t.Helper()
	return serveOn(t, srv, "127.0.0.1:0").String()
}

// serveOn serves on a socket until the test ends, and returns its address.
func serveOn(t testing.TB, srv *socketmap.Server, addr string) net.Addr {
	t.Helper()
	l, err := socketmap.Listen(addr, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve returned %v, want ErrServerClosed", err)
		}
	})
	return l.Addr()
}

// write writes bytes that are no whole frames.
func write(t *testing.T, nc net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(nc, s); err != nil {
		t.Errorf("writing: %v", err)
	}
}

// send writes the frames in one segment.
func send(t *testing.T, nc net.Conn, frames ...string) {
	t.Helper()
	var out []byte
	for _, f := range frames {
		out = netstring.Append(out, f)
	}
	if _, err := nc.Write(out); err != nil {
		t.Fatalf("writing: %v", err)
	}
}

// expect reads the replies that are due.
func expect(t *testing.T, nc net.Conn, replies ...string) {
	t.Helper()
	var want []byte
	for _, r := range replies {
		want = netstring.Append(want, r)
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(nc, got); err != nil {
		t.Fatalf("got %q and %v, want %q", got[:n], err, want)
	}
	if string(got) != string(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// expectEnd waits until the server closes the connection.
func expectEnd(t *testing.T, nc net.Conn) {
	t.Helper()
	if got, err := io.ReadAll(nc); err != nil || len(got) > 0 {
		t.Fatalf("got %q, %v, want the end of the connection", got, err)
	}
}

func TestRequests(t *testing.T) {
	longKey := strings.Repeat("k", socketmap.MaxKey)
	tests := []struct{ name, frame, reply string }{
		{"map and key", "policy example.com", "OK policy|example.com"},
		{"empty key", "policy ", "OK policy|"},
		{"no key", "policy", "OK policy|"},
		{"nothing", "", "OK |"},
		{"empty map", " example.com", "OK |example.com"},
		{"key of blanks", "policy   ", "OK policy|  "},
		{"key with blanks", "policy a b", "OK policy|a b"},
		{"any bytes", "policy \x00\xff\n", "OK policy|\x00\xff\n"},
		{"longest key", "policy " + longKey, "OK policy|" + longKey},
		{"key too long", "policy " + longKey + "k", "NOTFOUND "},
		{"longest frame", "policy " + strings.Repeat("k", socketmap.MaxRequest-7), "NOTFOUND "},
		{"map too long for a key", strings.Repeat("m", 300) + " k", "OK " + strings.Repeat("m", 300) + "|k"},
	}
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: echo}).dial()
		for _, tt := range tests {
			send(t, nc, tt.frame)
			expect(t, nc, tt.reply)
		}
		nc.Close()
	})
}

func TestTimeOfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		begin := time.Now()
		nc := start(t, &socketmap.Server{Handler: socketmap.HandlerFunc(func(_ context.Context, req socketmap.Request) socketmap.Reply {
			time.Sleep(time.Second)
			asked = append(asked, req.Asked.Sub(begin))
			return socketmap.Reply{Status: socketmap.OK}
		})}).dial()
		time.Sleep(time.Minute)
		send(t, nc, "m a", "m b") // the second is read when the first is answered
		expect(t, nc, "OK ", "OK ")
		if want := []time.Duration{time.Minute, time.Minute + time.Second}; !slices.Equal(asked, want) {
			t.Errorf("asked after %v, want %v", asked, want)
		}
		nc.Close()
	})
}

func TestKeyTooLongIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
			t.Error("the handler was asked")
			return socketmap.Reply{}
		})
		nc := start(t, &socketmap.Server{Handler: h}).dial()
		send(t, nc, "policy "+strings.Repeat("k", socketmap.MaxKey+1))
		expect(t, nc, "NOTFOUND ")
		nc.Close()
	})
}

func TestMalformedFrameEndsConnection(t *testing.T) {
	tests := []struct{ name, sent string }{
		{"not a netstring", "GET / HTTP/1.1\r\n\r\n"},
		{"frame too long", "10257:"},
		{"leading zero", "011:policy a.b"},
		{"no comma", "10:policy a.b;"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				l := start(t, &socketmap.Server{Handler: echo, Log: zap.New(core)})
				bad, good := l.dial(), l.dial()
				go write(t, bad, "4:m k1,"+tt.sent)
				expect(t, bad, "OK m|k1") // what came before it is answered
				expectEnd(t, bad)
				if n := logs.FilterLevelExact(zapcore.DebugLevel).FilterField(zap.Stringer("peer", bad.LocalAddr())).Len(); n != 1 {
					t.Errorf("%d lines in the log, want one with the peer: %v", n, logs.All())
				}
				send(t, good, "m k2")
				expect(t, good, "OK m|k2")
				good.Close()
				bad.Close()
			})
		})
	}
}

func TestPipelinedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: echo}).dial()
		send(t, nc, "m a", "m b", "m c")
		expect(t, nc, "OK m|a", "OK m|b", "OK m|c")
		nc.Close()
	})
}

func TestByteByByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: echo}).dial()
		for _, b := range []byte("5:m abc,") {
			if _, err := nc.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		expect(t, nc, "OK m|abc")
		nc.Close()
	})
}

// Many more answers than fit a buffer, to a client that reads only after it
// has written everything.
func TestManyPipelined(t *testing.T) {
	const n = 3000
	nc, err := net.Dial("tcp", serveTCP(t, &socketmap.Server{Handler: echo}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	frames, replies := make([]string, n), make([]string, n)
	for i := range n {
		key := strings.Repeat("x", i%40)
		frames[i], replies[i] = "m "+key, "OK m|"+key
	}
	send(t, nc, frames...)
	expect(t, nc, replies...)
}

// slowKey makes slow wait for a minute.
const slowKey = "slow"

var slow = socketmap.HandlerFunc(func(ctx context.Context, req socketmap.Request) socketmap.Reply {
	if req.Key == slowKey {
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
			return socketmap.Reply{Text: "shutting down"}
		}
	}
	return echo(ctx, req)
})

// An answer does not wait for the next one, if that takes long.
func TestAnswerBeforeSlowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: slow}).dial()
		begin := time.Now()
		send(t, nc, "m fast", "m "+slowKey, "m fast", "m "+slowKey, "m last")
		expect(t, nc, "OK m|fast")
		if took := time.Since(begin); took > 10*time.Millisecond {
			t.Errorf("the first answer took %v", took)
		}
		expect(t, nc, "OK m|slow", "OK m|fast")
		if took := time.Since(begin); took > time.Minute+10*time.Millisecond {
			t.Errorf("the second answer took %v", took)
		}
		expect(t, nc, "OK m|slow", "OK m|last")
		nc.Close()
	})
}

// A client that goes away while the answer is written, early or late, harms
// nobody.
func TestClientGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &socketmap.Server{Handler: slow})
		for _, frames := range [][]string{{"m a"}, {"m a", "m " + slowKey}, {"m " + slowKey}} {
			nc := l.dial()
			send(t, nc, frames...)
			nc.Close()
		}
		time.Sleep(2 * time.Minute)
		nc := l.dial()
		send(t, nc, "m b")
		expect(t, nc, "OK m|b")
		nc.Close()
	})
}

func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gauge := &gauge{}
		nc := start(t, &socketmap.Server{Handler: echo, Metrics: gauge}).dial()
		send(t, nc, "m a")
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if n := gauge.open.Load(); n != 1 {
			t.Fatalf("%d connections, want 1: it may still read", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := gauge.open.Load(); n != 0 {
			t.Errorf("%d connections, want none", n)
		}
		nc.Close()
	})
}

// gauge counts the connections that are open.
type gauge struct{ open, all atomic.Int64 }

func (g *gauge) ConnectionOpened() { g.open.Add(1); g.all.Add(1) }
func (g *gauge) ConnectionClosed() { g.open.Add(-1) }

func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: echo}).dial()
		for _, pause := range []time.Duration{time.Second, 11 * time.Second, 4*time.Minute + 59*time.Second} {
			time.Sleep(pause)
			send(t, nc, "m a")
			expect(t, nc, "OK m|a")
		}
		begin := time.Now()
		expectEnd(t, nc)
		if got := time.Since(begin); got < 5*time.Minute || got > 5*time.Minute+10*time.Second {
			t.Errorf("closed after %v, want 5 minutes or a little more", got)
		}
		nc.Close()
	})
}

// A request that does not come to its end counts as idleness.
func TestHalfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nc := start(t, &socketmap.Server{Handler: echo}).dial()
		begin := time.Now()
		write(t, nc, "5:m a")
		time.Sleep(4 * time.Minute)
		write(t, nc, "b")
		expectEnd(t, nc)
		if got := time.Since(begin); got < 5*time.Minute || got > 5*time.Minute+10*time.Second {
			t.Errorf("closed after %v, want 5 minutes or a little more", got)
		}
		nc.Close()
	})
}

func TestPanicIsTemp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		h := socketmap.HandlerFunc(func(ctx context.Context, req socketmap.Request) socketmap.Reply {
			if req.Key == "panic" {
				panic("out of order")
			}
			return echo(ctx, req)
		})
		nc := start(t, &socketmap.Server{Handler: h, Log: zap.New(core)}).dial()
		send(t, nc, "m a", "m panic", "m b")
		expect(t, nc, "OK m|a", "TEMP internal error; see the log of tlspolicyd", "OK m|b")
		nc.Close()
		errs := logs.FilterLevelExact(zapcore.ErrorLevel).All()
		if len(errs) != 1 || !strings.Contains(errs[0].ContextMap()["stack"].(string), "TestPanicIsTemp") {
			t.Errorf("log is %v, want one error with a stack", errs)
		}
	})
}

func TestReplyTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text string
		h := socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
			return socketmap.Reply{Status: socketmap.OK, Text: text}
		})
		nc := start(t, &socketmap.Server{Handler: h}).dial()
		text = strings.Repeat("x", socketmap.MaxReply-len("OK "))
		send(t, nc, "m a")
		expect(t, nc, "OK "+text)
		text += "x"
		send(t, nc, "m a")
		expect(t, nc, "TEMP the answer is too long")
		nc.Close()
	})
}

func TestZeroReplyIsTemp(t *testing.T) {
	if got := (socketmap.Reply{}).String(); got != "TEMP " {
		t.Errorf("got %q, want TEMP", got)
	}
	if got := (socketmap.Reply{Status: socketmap.NotFound}).String(); got != "NOTFOUND " {
		t.Errorf("got %q, want the blank after NOTFOUND", got)
	}
}
