package socketmap_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
)

// These tests use sockets of the kernel, and so the time of the wall.

// halfSocket is a socket whose halves can be closed.
type halfSocket interface {
	net.Conn
	CloseWrite() error
}

// onSockets runs a test with servers on TCP and on Unix sockets. serve serves and
// returns how to connect.
func onSockets(t *testing.T, test func(t *testing.T, serve func(*socketmap.Server) (dial func() halfSocket))) {
	t.Helper()
	for network, addr := range map[string]func(*testing.T) string{
		"tcp":  func(*testing.T) string { return "127.0.0.1:0" },
		"unix": func(t *testing.T) string { return "unix:" + filepath.Join(t.TempDir(), "s") },
	} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			test(t, func(srv *socketmap.Server) func() halfSocket {
				a := serveOn(t, srv, addr(t))
				return func() halfSocket {
					nc, err := net.Dial(a.Network(), a.String())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { nc.Close() })
					if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
						t.Fatal(err)
					}
					return nc.(halfSocket)
				}
			})
		})
	}
}

// A client that ends its half after its last request gets the answer and then the
// end, and need not wait for it, however it asked before.
func TestClientThatHalfCloses(t *testing.T) {
	asOneComesAnotherIsSent := socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
		time.Sleep(3 * time.Millisecond)
		return socketmap.Reply{Status: socketmap.OK, Text: "a"}
	})
	for before, limit := range map[int]time.Duration{0: 500 * time.Millisecond, 3: 5 * time.Second} {
		t.Run(fmt.Sprintf("after %d requests", before), func(t *testing.T) {
			onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
				nc := serve(&socketmap.Server{Handler: asOneComesAnotherIsSent})()
				for range before {
					send(t, nc, "m a")
					expect(t, nc, "OK a")
				}
				if before > 0 { // the end comes together with the last request, and both while one is answered
					send(t, nc, "m a")
					time.Sleep(time.Millisecond)
				}
				begin := time.Now()
				send(t, nc, "m a")
				if err := nc.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if before > 0 {
					expect(t, nc, "OK a")
				}
				expect(t, nc, "OK a")
				expectEnd(t, nc)
				if took := time.Since(begin); took > limit {
					t.Errorf("the end came after %v", took)
				}
			})
		})
	}
}

// Requests that come in pieces, and many at once, are read to the last byte.
func TestRequestsInPieces(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		nc := serve(&socketmap.Server{Handler: echo})()
		var all []byte
		var want []string
		for i := range 300 {
			key := strings.Repeat("k", i*i%9000)
			all, want = netstring.Append(all, "m ", key), append(want, "OK m|"+key)
		}
		go func() {
			for size := 1; len(all) > 0; size = (size*7 + 3) % 2000 {
				n := min(size+1, len(all))
				if _, err := nc.Write(all[:n]); err != nil {
					t.Error(err)
					return
				}
				all = all[n:]
			}
		}()
		expect(t, nc, want...)
	})
}

// A client that asks and asks and reads nothing is given up, in the middle of an
// answer, and no byte of another answer comes after that.
func TestClientThatOnlyAsks(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		gauge := &gauge{}
		long := strings.Repeat("x", 90_000)
		nc := serve(&socketmap.Server{
			Metrics: gauge, WriteTimeout: 300 * time.Millisecond,
			Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
				return socketmap.Reply{Status: socketmap.OK, Text: long}
			}),
		})()
		const requests = 1000
		go func() {
			_, _ = nc.Write([]byte(strings.Repeat("3:m a,", requests))) // fails if the server leaves early
		}()
		for end := time.Now().Add(10 * time.Second); gauge.all.Load() == 0 || gauge.open.Load() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the connection is still open")
			}
		}
		got, _ := io.ReadAll(nc) // ends with an error if requests were not read
		reply := string(netstring.Append(nil, "OK ", long))
		if len(got) >= requests*len(reply) {
			t.Fatal("all answers were written: this tests nothing")
		}
		if want := strings.Repeat(reply, len(got)/len(reply)+1); !strings.HasPrefix(want, string(got)) {
			t.Error("what came is no beginning of the answers")
		}
	})
}

// Close does not wait for a request in progress, and no answer comes of it.
func TestCloseOfSockets(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		asked := make(chan struct{})
		srv := &socketmap.Server{Handler: socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
			close(asked)
			<-ctx.Done()
			return socketmap.Reply{Status: socketmap.NotFound}
		})}
		dial := serve(srv)
		idle, busy := dial(), dial()
		send(t, busy, "m a")
		<-asked
		done := make(chan error, 1)
		go func() { done <- srv.Close() }()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Close still waits")
		}
		expectEnd(t, idle)
		if got, _ := io.ReadAll(busy); len(got) > 0 {
			t.Errorf("the request that was cut short was answered: %q", got)
		}
	})
}

// Clients that ask without pause do not hold up a shutdown, and get a whole answer or
// none.
func TestShutdownWhileAllAsk(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		for range 10 {
			srv := &socketmap.Server{Handler: echo}
			dial := serve(srv)
			var clients sync.WaitGroup
			for range 24 {
				nc := dial()
				clients.Go(func() {
					in := netstring.NewReader(nc, socketmap.MaxReply)
					for {
						if _, err := nc.Write([]byte("3:m a,")); err != nil {
							return
						}
						reply, err := in.ReadFrame()
						if err != nil {
							if in.Pending() {
								t.Errorf("a part of an answer: %v", err)
							}
							return
						}
						if string(reply) != "OK m|a" {
							t.Errorf("answer %q", reply)
						}
					}
				})
			}
			time.Sleep(5 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := srv.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			cancel()
			clients.Wait()
		}
	})
}

// Who makes room for another connection is hung up on, and who came instead finds
// nothing of what it left behind.
func TestOneConnectionAfterAnother(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		dial := serve(&socketmap.Server{Handler: echo, MaxConns: 1})
		var last halfSocket
		for i := range 100 {
			nc := dial()
			key := strings.Repeat("k", i*90)
			send(t, nc, "m "+key)
			expect(t, nc, "OK m|"+key)
			if i%2 > 0 {
				write(t, nc, "9000:m "+key) // and not the rest
			}
			if last != nil {
				expectEnd(t, last)
			}
			last = nc
		}
	})
}

// Who waits for room is answered before it has to make room for the next one that
// waits, whose request has arrived as well.
func TestManyWaitForRoom(t *testing.T) {
	onSockets(t, func(t *testing.T, serve func(*socketmap.Server) func() halfSocket) {
		asked, waiting := make(chan struct{}), make(chan struct{})
		var first sync.Once
		dial := serve(&socketmap.Server{MaxConns: 1, Handler: socketmap.HandlerFunc(func(ctx context.Context, req socketmap.Request) socketmap.Reply {
			first.Do(func() { close(asked) })
			<-waiting
			return echo(ctx, req)
		})})
		conns := make([]halfSocket, 60)
		for i := range conns {
			conns[i] = dial()
			send(t, conns[i], "m a")
			<-asked
		}
		close(waiting)
		for _, nc := range conns {
			expect(t, nc, "OK m|a")
		}
	})
}
