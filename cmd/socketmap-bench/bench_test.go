package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuantilesAreKnownToOnePercent(t *testing.T) {
	var l latencies
	const n = 100_000
	for i := 1; i <= n; i++ {
		l.add(time.Duration(i) * time.Microsecond)
	}
	for _, share := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		got, want := l.quantile(share), time.Duration(share*n)*time.Microsecond
		if diff := got - want; diff < 0 || float64(diff) > 0.01*float64(want) {
			t.Errorf("quantile %v: got %v, want %v", share, got, want)
		}
	}
	if l.quantile(1) != n*time.Microsecond || l.mean() != (n+1)*time.Microsecond/2 {
		t.Errorf("longest %v, mean %v", l.quantile(1), l.mean())
	}
}

func TestBucketsHoldWhatTheySay(t *testing.T) {
	for d := time.Duration(1); d < 4*time.Hour; d = d*9/8 + 1 {
		b := bucketOf(d)
		if d > upperBound(b) || b > 0 && d <= upperBound(b-1) {
			t.Errorf("%v is in bucket %d, from %v to %v", d, b, upperBound(b-1), upperBound(b))
		}
	}
	if b := bucketOf(1 << 62); b != buckets-1 {
		t.Errorf("the longest duration is in bucket %d", b)
	}
}

func TestOrders(t *testing.T) {
	const n = 100
	for order, most := range map[string]int{orderUniform: 100, orderZipf: 1000, orderOnce: 1} {
		k := keySet{mapName: "m", pattern: "d%d.example", first: 5, n: n, order: order}
		k.prepare()
		pick, seen := k.picker(0), make(map[string]int)
		for range 50 * n {
			frame, ok := pick()
			if !ok {
				break
			}
			seen[frame]++
		}
		if len(seen) > n || order != orderZipf && len(seen) != n {
			t.Errorf("%s: %d different questions of %d", order, len(seen), n)
		}
		first := seen["12:m d5.example,"]
		if first == 0 || order == orderZipf && first < most || order != orderZipf && first > most {
			t.Errorf("%s: the first key was asked for %d times", order, first)
		}
	}
}

// serveReply runs the echo server and returns its address.
func serveReply(t *testing.T, reply string) string {
	t.Helper()
	addr := "unix:" + filepath.Join(t.TempDir(), "s")
	out, in := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveEcho(ctx, addr, reply, in) }()
	var said string
	if _, err := fmt.Fscanln(out, &said); err != nil || said != addr {
		t.Fatalf("the echo server said %q, %v", said, err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addr
}

func TestLoad(t *testing.T) {
	addr := serveReply(t, "OK dane")
	for _, test := range []struct {
		name string
		args []string
		want uint64 // questions; 0: some
		err  bool
	}{
		{"for a time", []string{"-time", "50ms", "-want", "OK"}, 0, false},
		{"each key once", []string{"-order", "once", "-keys", "300", "-want", "OK"}, 300, false},
		{"new connections", []string{"-order", "once", "-keys", "30", "-reconnect"}, 30, false},
		{"warm, Zipf", []string{"-warm", "-order", "zipf", "-time", "50ms"}, 0, false},
		{"another reply", []string{"-order", "once", "-keys", "30", "-want", "NOTFOUND"}, 30, true},
	} {
		var out, messages bytes.Buffer
		err := run(t.Context(), append([]string{"load", "-addr", addr, "-conns", "3"}, test.args...), &out, &messages)
		if (err != nil) != test.err {
			t.Errorf("%s: %v", test.name, err)
		}
		var r result
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%s: said %q: %v", test.name, out.String(), err)
		}
		if r.Queries == 0 || test.want > 0 && r.Queries != test.want || r.Replies["OK"] != int(r.Queries) || r.Latency.P50 <= 0 {
			t.Errorf("%s: got %+v", test.name, r)
		}
	}
}

func TestWhatCannotBeMeasured(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			nc.Close()
		}
	}()
	for _, test := range []struct {
		args  string
		usage bool
	}{
		{"", true},
		{"nonsense", true},
		{"load -nonsense", true},
		{"load more", true},
		{"load -conns 0", true},
		{"load -order backwards", true},
		{"load -key example.com", true},
		{"load -map a\u00a0b -keys 0", true},
		{"compare -pairs 0", true},
		{"compare -order once", true},
		{"compare -apart", true},
		{"load -addr unix:/nowhere/at/all", false},
		{"load -time 1s -addr " + l.Addr().String(), false},
	} {
		var out, messages bytes.Buffer
		err := run(t.Context(), strings.Fields(test.args), &out, &messages)
		if err == nil || errors.Is(err, errUsage) != test.usage {
			t.Errorf("%q: %v, want an error; usage %v", test.args, err, test.usage)
		}
	}
}
