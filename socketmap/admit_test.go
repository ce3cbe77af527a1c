package socketmap_test

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tlspolicyd/socketmap"
)

// ask makes sure that nc is served.
func ask(t *testing.T, nc net.Conn) {
	t.Helper()
	send(t, nc, "m a")
	expect(t, nc, "OK m|a")
}

func TestLongestIdleMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gauge := &gauge{}
		l := start(t, &socketmap.Server{Handler: echo, MaxConns: 3, Metrics: gauge})
		conns := []net.Conn{l.dial(), l.dial(), l.dial()}
		for _, i := range []int{0, 1, 2, 0} { // 1 is the one that was asked first
			time.Sleep(time.Second)
			ask(t, conns[i])
		}
		next := l.dial()
		expectEnd(t, conns[1])
		ask(t, next)
		ask(t, conns[0])
		ask(t, conns[2])
		synctest.Wait()
		if got := gauge.open.Load(); got != 3 {
			t.Errorf("%d connections are open, want 3", got)
		}
		for _, nc := range append(conns, next) {
			nc.Close()
		}
	})
}

// Connections on which nothing was ever asked, or only half of a request,
// count as idle too.
func TestIdleConnectionsDoNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &socketmap.Server{Handler: echo, MaxConns: 500})
		conns := make([]net.Conn, 900)
		for i := range conns {
			conns[i] = l.dial()
			if i%2 == 0 && i >= 400 {
				write(t, conns[i], "4:m")
			}
		}
		begin := time.Now()
		next := l.dial()
		ask(t, next)
		if took := time.Since(begin); took > 0 {
			t.Errorf("the answer took %v", took)
		}
		for _, nc := range append(conns, next) {
			nc.Close()
		}
	})
}

func TestSaturatedAcceptWaits(t *testing.T) {
	tests := []struct {
		name string
		// free gives room after a second.
		free func(t *testing.T, busy net.Conn)
		want time.Duration
	}{
		{"until a connection is closed", func(_ *testing.T, busy net.Conn) {
			time.Sleep(time.Second)
			busy.Close()
		}, time.Minute}, // the answer in progress comes to its end
		{"until a connection becomes idle", func(t *testing.T, busy net.Conn) {
			expect(t, busy, "OK m|slow")
			expectEnd(t, busy)
		}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := start(t, &socketmap.Server{Handler: slow, MaxConns: 1})
				busy := l.dial()
				send(t, busy, "m "+slowKey)
				synctest.Wait()
				begin := time.Now()
				next := l.dial()
				go tt.free(t, busy)
				ask(t, next)
				if took := time.Since(begin).Round(time.Second); took != tt.want {
					t.Errorf("the answer took %v, want %v", took, tt.want)
				}
				next.Close()
				synctest.Wait()
				busy.Close()
			})
		})
	}
}

// Two listeners wait for a slot at the same time. Each gets one: the second in
// place of the first, as soon as that is idle.
func TestSeveralListenersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gauge := &gauge{}
		srv := &socketmap.Server{Handler: slow, MaxConns: 1, Metrics: gauge}
		first, second := start(t, srv), start(t, srv)
		busy := first.dial()
		send(t, busy, "m "+slowKey)
		synctest.Wait()
		a, b := first.dial(), second.dial()
		synctest.Wait()
		if got := gauge.all.Load(); got != 1 {
			t.Errorf("%d connections were served at first, want 1", got)
		}
		expect(t, busy, "OK m|slow")
		expectEnd(t, busy)
		synctest.Wait()
		if open, all := gauge.open.Load(), gauge.all.Load(); open != 1 || all != 3 {
			t.Errorf("%d connections are open, %d were served; want 1 and 3", open, all)
		}
		a.Close()
		b.Close()
	})
}

func TestCloseUnblocksSaturatedAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: slow, MaxConns: 1}
		l, other := start(t, srv), start(t, srv)
		busy := l.dial()
		send(t, busy, "m "+slowKey)
		synctest.Wait()
		waiting, alsoWaiting := l.dial(), other.dial()
		synctest.Wait()
		begin := time.Now()
		srv.Close()
		expectEnd(t, waiting)
		expectEnd(t, alsoWaiting)
		expectEnd(t, busy)
		if took := time.Since(begin); took > 0 {
			t.Errorf("closing took %v", took)
		}
	})
}

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		l := start(t, &socketmap.Server{Handler: echo, Log: zap.New(core)})
		idle := l.dial()
		ask(t, idle)
		synctest.Wait()
		begin := time.Now()
		fail := func() { l.errs <- fmt.Errorf("accept: %w", syscall.EMFILE) }

		fail()
		expectEnd(t, idle) // its descriptor is needed
		for range 7 {
			fail()
		}
		// 5, 10, 20, 40, 80, 160 and 320 ms have passed.
		if took := time.Since(begin); took != 635*time.Millisecond {
			t.Errorf("eight errors took %v, want 635ms", took)
		}
		for range 10 {
			fail()
		}
		// 640 ms, and then one second each.
		if took := time.Since(begin); took != 10*time.Second+275*time.Millisecond {
			t.Errorf("eighteen errors took %v, want 10.275s", took)
		}
		nc := l.dial()
		ask(t, nc)
		if n := logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
			t.Errorf("%d lines in the log, want 1", n)
		}

		begin = time.Now()
		fail()
		fail()
		if took := time.Since(begin); took != 5*time.Millisecond {
			t.Errorf("the pause after a success is %v, want 5ms", took)
		}
		time.Sleep(time.Minute)
		fail()
		synctest.Wait()
		lines := logs.FilterLevelExact(zap.ErrorLevel).All()
		if len(lines) != 2 || lines[1].ContextMap()["errors_not_logged"] != int64(19) {
			t.Errorf("the log is %v, want a second line that counts 19 errors", lines)
		}
		nc.Close()
	})
}

func TestShutdownEndsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &socketmap.Server{Handler: echo}
		l := start(t, srv)
		l.errs <- syscall.ENFILE
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown returned %v", err)
		}
	})
}
