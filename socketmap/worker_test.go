package socketmap_test

import (
	"net"
	"runtime/metrics"
	"testing"
	"testing/synctest"

	"tlspolicyd/socketmap"
)

// goroutinesMade is how many goroutines were ever started.
func goroutinesMade() uint64 {
	sample := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// goroutines is how many there are.
func goroutines() uint64 {
	sample := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func TestConnectionsOneAfterTheOtherShareAGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &socketmap.Server{Handler: echo})
		const conns = 1000
		before := goroutinesMade()
		for range conns {
			nc := l.dial()
			ask(t, nc)
			nc.Close()
			synctest.Wait()
		}
		if n := goroutinesMade() - before; n > conns/10 {
			t.Errorf("%d goroutines for %d connections", n, conns)
		}
	})
}

func TestFewGoroutinesWaitForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := start(t, &socketmap.Server{Handler: echo, MaxConns: 1000})
		before := goroutines()
		conns := make([]net.Conn, 500)
		for i := range conns {
			conns[i] = l.dial()
			ask(t, conns[i])
		}
		for _, nc := range conns {
			nc.Close()
		}
		synctest.Wait()
		if n := goroutines() - before; n > 100 {
			t.Errorf("%d goroutines wait", n)
		}
		ask(t, l.dial())
	})
}
