package socketmap_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/socketmap"
)

func TestShutdownAnswersWhatHasArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: slow}
		l := start(t, srv)
		idle, fresh, busy := l.dial(), l.dial(), l.dial()
		send(t, idle, "m a")
		expect(t, idle, "OK m|a")
		send(t, busy, "m "+slowKey, "m b")
		synctest.Wait()

		begin := time.Now()
		down := make(chan error)
		go func() { down <- srv.Shutdown(t.Context()) }()
		expectEnd(t, idle)
		expectEnd(t, fresh)
		expect(t, busy, "OK m|slow", "OK m|b")
		expectEnd(t, busy)
		if err := <-down; err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("Shutdown took %v, want the minute of the last answer", took)
		}
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown returned %v", err)
		}
		if err := srv.Serve(newPipeListener()); !errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve after Shutdown returned %v", err)
		}
	})
}

// When nobody has the time to wait, the requests are told so.
func TestShutdownGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: slow}
		busy := start(t, srv).dial()
		send(t, busy, "m "+slowKey)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown returned %v", err)
		}
		expectEnd(t, busy)
		if took := time.Since(begin); took != time.Second {
			t.Errorf("the connection was closed after %v, want 1s", took)
		}
	})
}

// An answer that was cut short says less than none: who has none asks again.
func TestAnswersThatAreCutShortAreNotSent(t *testing.T) {
	cutShort := socketmap.HandlerFunc(func(ctx context.Context, _ socketmap.Request) socketmap.Reply {
		<-ctx.Done()
		return socketmap.Reply{Status: socketmap.NotFound}
	})
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: cutShort}
		l := start(t, srv)
		var clients sync.WaitGroup
		for range 100 {
			busy := l.dial()
			send(t, busy, "m a")
			clients.Go(func() {
				if got, err := io.ReadAll(busy); err != nil || len(got) > 0 {
					t.Errorf("got %q, %v, want the end of the connection", got, err)
				}
			})
		}
		synctest.Wait()
		srv.Close()
		clients.Wait()
	})
}

func TestShutdownBeforeServe(t *testing.T) {
	srv := &socketmap.Server{Handler: echo}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	l := newPipeListener()
	if err := srv.Serve(l); !errors.Is(err, socketmap.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

// A listener that somebody else closes ends its Serve, and nothing else.
func TestListenerClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: echo}
		nc := start(t, srv).dial()
		other := newPipeListener()
		other.Close()
		err := srv.Serve(other)
		if !errors.Is(err, net.ErrClosed) || errors.Is(err, socketmap.ErrServerClosed) {
			t.Errorf("Serve returned %v, want net.ErrClosed", err)
		}
		send(t, nc, "m a")
		expect(t, nc, "OK m|a")
		nc.Close()
	})
}

// Connections that become idle, get a request and are closed to make room, all
// at the same time: every request is answered, or its connection ended.
func TestShutdownUnderLoad(t *testing.T) {
	srv := &socketmap.Server{Handler: echo, MaxConns: 3}
	l, err := socketmap.Listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()
	const clients = 8
	answers := make(chan int, clients)
	for range clients {
		go func() { answers <- askUntilRefused(t, l.Addr().String()) }()
	}
	time.Sleep(100 * time.Millisecond)
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	total := 0
	for range clients {
		total += <-answers
	}
	if total == 0 {
		t.Error("nobody got an answer")
	}
	if err := <-served; !errors.Is(err, socketmap.ErrServerClosed) {
		t.Errorf("Serve returned %v", err)
	}
}

// askUntilRefused asks until nobody listens any more, and returns how many
// answers it got. An answer must be that to the question.
func askUntilRefused(t *testing.T, addr string) (answers int) {
	for {
		c, err := socketmap.Dial(t.Context(), addr)
		if err != nil {
			return answers
		}
		for err == nil {
			key := time.Now().String()
			var reply socketmap.Reply
			reply, err = c.Lookup(t.Context(), "m", key)
			if err == nil && reply.Text != "m|"+key {
				t.Errorf("asked for %q, got %q", key, reply.Text)
			}
			if err == nil {
				answers++
			}
		}
		c.Close()
	}
}

// A client that was told to go comes back once. If it then comes to a server that
// shuts down as well, its request is on the way when its connection looks idle.
func TestShutdownAnswersWhatIsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: echo}
		l := start(t, srv)
		used, fresh, silent := l.dial(), l.dial(), l.dial()
		send(t, used, "m a")
		expect(t, used, "OK m|a")
		synctest.Wait()

		begin := time.Now()
		down := make(chan error)
		go func() { down <- srv.Shutdown(t.Context()) }()
		time.Sleep(100 * time.Millisecond)
		for _, nc := range []net.Conn{used, fresh} {
			send(t, nc, "m b")
			expect(t, nc, "OK m|b")
			expectEnd(t, nc)
		}
		expectEnd(t, silent)
		if err := <-down; err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
		if took := time.Since(begin); took != 250*time.Millisecond {
			t.Errorf("Shutdown took %v, want 250ms", took)
		}
	})
}
