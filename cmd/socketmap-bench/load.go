package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"
)

// load is what is asked of a server, and how.
type load struct {
	addr      string
	pid       int
	conns     int
	reconnect bool
	took      time.Duration
	warm      bool
	want      string
	keys      keySet
}

func (l *load) flags(f *flag.FlagSet) {
	f.StringVar(&l.addr, "addr", "127.0.0.1:8461", "the server, host:port or unix:/path")
	f.IntVar(&l.pid, "pid", 0, "process of the server, whose CPU time is counted; 0: the one that listens on the Unix socket")
	f.IntVar(&l.conns, "conns", 8, "connections")
	f.BoolVar(&l.reconnect, "reconnect", false, "open a new connection for every question")
	f.DurationVar(&l.took, "time", 5*time.Second, "how long to ask")
	f.BoolVar(&l.warm, "warm", false, "ask for every key once before")
	f.StringVar(&l.want, "want", "", "the first word that every reply must have; empty: any")
	f.StringVar(&l.keys.mapName, "map", "policy", "the map")
	f.StringVar(&l.keys.pattern, "key", "d%d.example", "a key, with a verb for its number")
	f.IntVar(&l.keys.first, "first", 0, "number of the first key")
	f.IntVar(&l.keys.n, "keys", 1000, "how many keys there are")
	f.StringVar(&l.keys.order, "order", orderUniform, "uniform, zipf, or once: one after the other")
	f.Uint64Var(&l.keys.seed, "seed", 1, "what makes chance the same again")
}

func (l *load) check() error {
	if l.conns < 1 || l.took <= 0 {
		return fmt.Errorf("%w: no connections, or no time", errUsage)
	}
	if err := l.keys.check(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

// run asks, and returns what came of it.
func (l *load) run(ctx context.Context) (*result, error) {
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	return l.once(ctx)
}

// prepare does what is not measured.
func (l *load) prepare(ctx context.Context) error {
	l.keys.prepare()
	if err := l.findServer(); err != nil {
		return err
	}
	if l.warm {
		return l.warmUp(ctx)
	}
	return nil
}

// warmUp asks for every key once, over connections that last.
func (l *load) warmUp(ctx context.Context) error {
	once := load{addr: l.addr, conns: l.conns, want: l.want, keys: keySet{
		mapName: l.keys.mapName, pattern: l.keys.pattern, first: l.keys.first, n: l.keys.n, order: orderOnce,
	}}
	r, err := once.measure(ctx)
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return fmt.Errorf("asking for every key: %w", err)
	}
	return nil
}

// once asks for as long as it is to be measured. Once the time is over no
// further question is asked.
func (l *load) once(ctx context.Context) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, l.took)
	defer cancel()
	return l.measure(ctx)
}

// measure asks until ctx ends or there is nothing left to ask.
func (l *load) measure(ctx context.Context) (*result, error) {
	askers := make([]asker, l.conns)
	for i := range askers {
		askers[i] = asker{load: l, pick: l.keys.picker(i)}
		if err := askers[i].open(ctx); err != nil {
			for j := range i {
				askers[j].close()
			}
			return nil, err
		}
	}
	cpu, err := cpuTime(l.pid)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() { askers[i].run(ctx) })
	}
	asking.Wait()
	took := time.Since(started)
	used, err := cpuTime(l.pid)
	if err != nil {
		return nil, err
	}
	return l.sum(askers, took, used-cpu), nil
}
