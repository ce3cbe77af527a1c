package main

import (
	"errors"
	"fmt"
	"time"
)

// result is what came of a load.
type result struct {
	Addr        string `json:"addr"`
	Connections int    `json:"connections"`
	Reconnect   bool   `json:"reconnect"`
	Keys        int    `json:"keys"`
	Order       string `json:"order"`

	Seconds   float64        `json:"seconds"`
	Queries   uint64         `json:"queries"`
	PerSecond float64        `json:"per_second"`
	Replies   map[string]int `json:"replies"`
	Unwanted  int            `json:"unwanted"`
	Errors    []string       `json:"errors,omitempty"`
	// CPU is the CPU time of the server per question, in microseconds.
	CPU     float64   `json:"cpu_us,omitempty"`
	Latency quantiles `json:"latency_us"`
}

// quantiles are durations in microseconds.
type quantiles struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// maxErrors is how many errors are told.
const maxErrors = 5

// sum adds up what was seen on all connections.
func (l *load) sum(askers []asker, took, cpu time.Duration) *result {
	r := &result{
		Addr: l.addr, Connections: l.conns, Reconnect: l.reconnect, Keys: l.keys.n, Order: l.keys.order,
		Seconds: took.Seconds(), Replies: make(map[string]int),
	}
	all := new(latencies)
	for i := range askers {
		a := &askers[i]
		all.merge(&a.latencies)
		r.Unwanted += a.unwanted
		for word, n := range a.replies {
			r.Replies[word] += n
		}
		if a.failed != nil && len(r.Errors) < maxErrors {
			r.Errors = append(r.Errors, a.failed.Error())
		}
	}
	r.Queries = all.n
	r.PerSecond = float64(all.n) / took.Seconds()
	if all.n > 0 {
		r.CPU = micros(cpu) / float64(all.n)
	}
	r.Latency = quantiles{
		Mean: micros(all.mean()), P50: micros(all.quantile(0.5)), P90: micros(all.quantile(0.9)),
		P99: micros(all.quantile(0.99)), P999: micros(all.quantile(0.999)), Max: micros(all.max),
	}
	return r
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// err says that not everything was answered as it was wanted.
func (r *result) err() error {
	switch {
	case len(r.Errors) > 0:
		return errors.New(r.Errors[0])
	case r.Unwanted > 0:
		return fmt.Errorf("%d of %d replies begin with another word than the one wanted", r.Unwanted, r.Queries)
	}
	return nil
}
