//go:build e2e

package redis

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
)

// A port is free at once, also while other programs are being started, which for
// a moment hold whatever this process has open.
func TestAFreePortIsFree(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	defer starting.Wait()
	defer cancel()
	for range 4 {
		starting.Go(func() {
			for ctx.Err() == nil {
				_ = exec.CommandContext(ctx, "true").Run() // it is killed in the end
			}
		})
	}
	for range 1000 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t))))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
