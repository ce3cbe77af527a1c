package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"tlspolicyd/socketmap"
	"tlspolicyd/socketmap/netstring"
)

// asker is one connection, and what was seen on it. It belongs to one
// goroutine.
type asker struct {
	load *load
	pick picker
	nc   net.Conn
	in   *netstring.Reader
	out  []byte

	latencies latencies
	// replies counts replies by their first word.
	replies map[string]int
	// unwanted are replies with another first word than the one wanted, and
	// failed is why the connection ended before its time.
	unwanted int
	failed   error
}

func (a *asker) open(ctx context.Context) error {
	nc, err := dial(ctx, a.load.addr)
	if err != nil {
		return err
	}
	a.nc, a.in = nc, netstring.NewReader(nc, socketmap.MaxReply)
	return nil
}

// dial connects to "host:port" or "unix:/path".
func dial(ctx context.Context, addr string) (net.Conn, error) {
	network, address := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %q: %w", addr, err)
	}
	return nc, nil
}

func (a *asker) close() {
	_ = a.nc.Close() // everything that was wanted has been read
}

// run asks until ctx ends. An answer that is under way then is awaited.
func (a *asker) run(ctx context.Context) {
	defer func() { a.close() }()
	a.replies = make(map[string]int)
	for ctx.Err() == nil {
		frame, ok := a.pick()
		if !ok {
			return
		}
		asked := time.Now()
		reply, err := a.ask(frame)
		if err != nil {
			a.failed = fmt.Errorf("after %d answers: %w", a.latencies.n, err)
			return
		}
		a.latencies.add(time.Since(asked))
		a.count(reply)
	}
}

// ask asks one question. A new connection is part of it, where one is wanted
// for every question.
func (a *asker) ask(frame string) ([]byte, error) {
	if a.load.reconnect && a.latencies.n > 0 {
		a.close()
		if err := a.open(context.Background()); err != nil {
			return nil, err
		}
	}
	a.out = append(a.out[:0], frame...)
	if _, err := a.nc.Write(a.out); err != nil {
		return nil, err
	}
	return a.in.ReadFrame()
}

func (a *asker) count(reply []byte) {
	word, _, _ := bytes.Cut(reply, []byte{' '})
	if n, ok := a.replies[string(word)]; ok {
		a.replies[string(word)] = n + 1
	} else {
		a.replies[string(word)] = 1
	}
	if a.load.want != "" && a.load.want != string(word) {
		a.unwanted++
	}
}
