package socketmap_test

import (
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/socketmap"
)

func TestAnswersThatNobodyReadsDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answered atomic.Int64
		l := start(t, &socketmap.Server{Handler: socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply {
			answered.Add(1)
			return socketmap.Reply{Status: socketmap.OK, Text: strings.Repeat("x", 10_000)}
		})})
		nc := l.dial()
		defer nc.Close()
		go write(t, nc, strings.Repeat("10:policy a.b,", 200)) // all at once, and no answer is read
		time.Sleep(time.Second)
		synctest.Wait()
		if n := answered.Load(); n > 4 {
			t.Errorf("%d answers of 10,000 bytes wait to be read, want 4 at most", n)
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(nc, 200*10_000)); err != nil {
			t.Error(err)
		}
	})
}
