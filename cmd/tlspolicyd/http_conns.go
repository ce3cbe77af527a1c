package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
)

// turnstile is a listener with a limit of connections that are open at a time.
// Beyond that, a new one takes the place of the one that has kept its request
// back for the longest time: who connects and says nothing keeps nobody out.
// While all of them are being answered, Accept waits. It is made by
// [newTurnstile], and the server has to use its enter and its serving.
type turnstile struct {
	net.Listener
	limit int
	freed chan struct{} // holds one token once a connection was closed
	ended chan struct{} // closed by Close
	close func() error

	mu   sync.Mutex
	open []*guest // in the order of their coming
}

// guest is a connection that has come through a turnstile.
type guest struct {
	net.Conn
	of    *turnstile
	asked bool // its request is there; guarded by of.mu
	leave func() error
}

func newTurnstile(l net.Listener, limit int) *turnstile {
	f := &turnstile{Listener: l, limit: limit, freed: make(chan struct{}, 1), ended: make(chan struct{})}
	f.close = sync.OnceValue(func() error {
		close(f.ended)
		return l.Close()
	})
	return f
}

// Accept waits for a connection, and then for a place for it.
func (f *turnstile) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: c, of: f}
	g.leave = sync.OnceValue(func() error {
		f.forget(g)
		return c.Close()
	})
	for !f.admit(g) {
		select {
		case <-f.freed:
		case <-f.ended:
			_ = c.Close() // nobody will serve it
			return nil, net.ErrClosed
		}
	}
	return g, nil
}

// admit gives g a place, if need be that of another.
func (f *turnstile) admit(g *guest) bool {
	var displaced *guest
	f.mu.Lock()
	if len(f.open) >= f.limit {
		i := slices.IndexFunc(f.open, func(o *guest) bool { return !o.asked })
		if i < 0 {
			f.mu.Unlock()
			return false
		}
		displaced = f.open[i]
		f.open = slices.Delete(f.open, i, i+1)
	}
	f.open = append(f.open, g)
	f.mu.Unlock()
	if displaced != nil {
		_ = displaced.Close() // it has said nothing, and is told nothing
	}
	return true
}

// forget takes away the place of g, if it still has one.
func (f *turnstile) forget(g *guest) {
	f.mu.Lock()
	f.open = slices.DeleteFunc(f.open, func(o *guest) bool { return o == g })
	f.mu.Unlock()
	select {
	case f.freed <- struct{}{}:
	default: // there is a token already
	}
}

// Close ends Accept, also while it waits for a place.
func (f *turnstile) Close() error { return f.close() }

// Close closes the connection and gives up its place.
func (g *guest) Close() error { return g.leave() }

// guestKey is the key of the connection in the context of its requests.
type guestKey struct{}

// enter keeps a connection for [turnstile.serving].
func (f *turnstile) enter(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, c)
}

// serving is h, with its connection safe from those that come later.
func (f *turnstile) serving(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
			f.mu.Lock()
			g.asked = true
			f.mu.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}
