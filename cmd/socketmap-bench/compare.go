package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tlspolicyd/socketmap"
)

// compare measures a server and the echo server by turns.
type compare struct {
	load
	pairs int
	gap   time.Duration
	apart bool
}

// ratios are what the server adds to what the echo server does: medians over
// all pairs, and the quarters around them.
type ratios struct {
	Pairs int `json:"pairs"`
	// Throughput, P50, P99 and CPU are those of the server, as a multiple of
	// the echo server's.
	Throughput spread `json:"throughput"`
	P50        spread `json:"p50"`
	P99        spread `json:"p99"`
	CPU        spread `json:"cpu"`
	// Load is the load of the machine in the last minute, at the end.
	Load string `json:"load"`
}

// spread is a median and the quartiles.
type spread struct {
	Low    float64 `json:"q1"`
	Median float64 `json:"median"`
	High   float64 `json:"q3"`
}

func runCompare(ctx context.Context, args []string, out, messages io.Writer) error {
	var c compare
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	c.flags(flags)
	flags.IntVar(&c.pairs, "pairs", 10, "how often to measure both")
	flags.DurationVar(&c.gap, "gap", 100*time.Millisecond, "rest between measurements")
	flags.BoolVar(&c.apart, "apart", false, "keep the client on the first CPU, and both servers on the others")
	if err := parse(flags, args, messages); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.apart && c.pid == 0 && !strings.HasPrefix(c.addr, "unix:") {
		return fmt.Errorf("%w: -apart needs -pid", errUsage)
	}
	if c.pairs < 1 || c.keys.order == orderOnce {
		return fmt.Errorf("%w: no pairs, or keys that are asked for once", errUsage)
	}
	return c.run(ctx, out, messages)
}

// run measures the pairs. Which of the two goes first changes with every pair.
func (c *compare) run(ctx context.Context, out, messages io.Writer) error {
	c.warm = true
	if err := c.prepare(ctx); err != nil {
		return err
	}
	echo, stop, err := c.startEcho(ctx, messages)
	if err != nil {
		return err
	}
	defer stop()
	enc := json.NewEncoder(out)
	var ours, bare []*result
	for i := range c.pairs {
		order := []*load{&c.load, echo}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, l := range order {
			time.Sleep(c.gap)
			r, err := l.once(ctx)
			if err == nil {
				err = errors.Join(r.err(), enc.Encode(r))
			}
			if err != nil {
				return err
			}
			if l == echo {
				bare = append(bare, r)
			} else {
				ours = append(ours, r)
			}
		}
	}
	return enc.Encode(ratiosOf(ours, bare))
}

// startEcho starts an echo server as a process of its own, on the same kind of
// socket, with the reply that the server has for the first key.
func (c *compare) startEcho(ctx context.Context, messages io.Writer) (*load, func(), error) {
	reply, err := c.firstReply(ctx)
	if err != nil {
		return nil, nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "echo")
	if err != nil {
		return nil, nil, err
	}
	addr := "127.0.0.1:0"
	if strings.HasPrefix(c.addr, "unix:") {
		addr = "unix:" + filepath.Join(dir, "s")
	}
	cmd := exec.CommandContext(ctx, program, "echo", "-listen", addr, "-reply", reply)
	cmd.Stderr = messages
	stop := func() {
		if cmd.Process != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			_ = cmd.Wait()                          // how it ends is of no interest
		}
		_ = os.RemoveAll(dir) // it is below the directory for what is temporary
	}
	listening, err := startAndRead(cmd)
	if err == nil && c.apart {
		err = keepApart(c.pid, cmd.Process.Pid)
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("starting the echo server: %w", err)
	}
	echo := &load{addr: listening, pid: cmd.Process.Pid, conns: c.conns, reconnect: c.reconnect, took: c.took, want: c.want,
		keys: keySet{n: c.keys.n, order: c.keys.order, seed: c.keys.seed, frames: c.keys.frames}}
	return echo, stop, nil
}

// startAndRead starts a program and returns its first line.
func startAndRead(cmd *exec.Cmd) (string, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	return strings.TrimSpace(line), err
}

func (c *compare) firstReply(ctx context.Context) (string, error) {
	client, err := socketmap.Dial(ctx, c.addr)
	if err != nil {
		return "", err
	}
	defer client.Close()
	reply, err := client.Lookup(ctx, c.keys.mapName, c.keys.key(0))
	return reply.String(), err
}

// ratiosOf compares pair by pair.
func ratiosOf(ours, bare []*result) ratios {
	over := func(of func(*result) float64) spread {
		all := make([]float64, len(ours))
		for i := range ours {
			if d := of(bare[i]); d > 0 {
				all[i] = of(ours[i]) / d
			}
		}
		slices.Sort(all)
		return spread{Low: all[len(all)/4], Median: median(all), High: all[len(all)*3/4]}
	}
	r := ratios{
		Pairs:      len(ours),
		Throughput: over(func(r *result) float64 { return r.PerSecond }),
		P50:        over(func(r *result) float64 { return r.Latency.P50 }),
		P99:        over(func(r *result) float64 { return r.Latency.P99 }),
		CPU:        over(func(r *result) float64 { return r.CPU }),
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.Load, _, _ = strings.Cut(string(data), " ")
	}
	return r
}

// median returns the median of sorted figures.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
