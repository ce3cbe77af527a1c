package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Connections that send no request, or only a part of one, keep nobody out: the
// oldest give way.
func TestHTTPIsNotBlindedByIdleConnections(t *testing.T) {
	const idle = 200
	for name, begin := range map[string]string{"nothing": "", "half a header": request} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, page, func(t *testing.T, p *pipes) {
				var conns []net.Conn
				for range idle {
					c := p.dial(t)
					conns = append(conns, c)
					go func() { _, _ = io.WriteString(c, begin) }() // or it is closed
				}
				opened := time.Now()
				if code, _ := get(t, p.dial(t), request+"\r\n"); code != 200 {
					t.Errorf("got %d, want 200", code)
				}
				if took := time.Since(opened); took != 0 {
					t.Errorf("waited for %v", took)
				}
				if n := countOpen(t, conns); n != httpConns-1 {
					t.Errorf("%d of the idle connections are open, want %d", n, httpConns-1)
				}
			})
		})
	}
}

// countOpen counts the connections that the other side has not closed.
func countOpen(t *testing.T, conns []net.Conn) int {
	t.Helper()
	n := 0
	for _, c := range conns {
		if c.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
			continue
		}
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			n++
		}
	}
	return n
}

// While all connections are being answered, a new one waits, and none is cut off.
func TestHTTPCutsOffNoAnswer(t *testing.T) {
	var open chan struct{}
	slow := func(w http.ResponseWriter, r *http.Request) {
		<-open
		page(w, r)
	}
	inBubble(t, slow, func(t *testing.T, p *pipes) {
		var asking sync.WaitGroup
		ask := func() {
			c := p.dial(t)
			asking.Go(func() {
				if code, _ := get(t, c, request+"\r\n"); code != 200 {
					t.Errorf("got %d, want 200", code)
				}
			})
			synctest.Wait()
		}
		open = make(chan struct{})
		for range httpConns + 1 {
			ask()
		}
		close(open)
		asking.Wait()
	})
}

func TestHTTPEndsWithAllPlacesTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		l := newTurnstile(p, 1)
		accepted := make(chan error, 2)
		go func() {
			c, err := l.Accept()
			accepted <- err
			if err == nil {
				l.serving(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
					ServeHTTP(nil, new(http.Request).WithContext(l.enter(t.Context(), c)))
			}
			_, err = l.Accept()
			accepted <- err
		}()
		p.dial(t)
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		p.dial(t) // it waits for a place
		synctest.Wait()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returned %v, want %v", err, net.ErrClosed)
		}
	})
}

func TestAdminEndsWithAllSlotsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		l := newFewConns(p, 1)
		accepted := make(chan error, 2)
		go func() {
			for range 2 {
				_, err := l.Accept()
				accepted <- err
			}
		}()
		p.dial(t)
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returned %v, want %v", err, net.ErrClosed)
		}
	})
}
