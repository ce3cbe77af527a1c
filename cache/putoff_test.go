package cache

import (
	"errors"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// A fetch for which there was no place is no failure: nothing holds the next
// one up, and the store is told nothing.
func TestFetchWithoutAPlaceIsNotRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.fetchTakes = 3 * time.Second
		w.publish("example.com", site{id: "1", text: enforce, full: true})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.NotFound, 3*time.Second)
		if v := r.Inspect(t.Context(), dom(t, "example.com")); w.saves != 0 || v.Known() {
			t.Errorf("%d saves; known is %+v", w.saves, v)
		}
		w.publish("example.com", site{id: "1", text: enforce})
		r.want("example.com", policy.Secure, 3*time.Second)
	})
}

// With a policy in force, the look that came before counts, or every question
// would have another one made.
func TestChangeThatFindsNoPlaceWaitsForTheNextLook(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", enforce, time.Now().Add(-10*time.Minute)))
		w.publish("example.com", site{id: "2", text: "testing 2h mx.example.com", full: true})
		r := start(t, w, Options{})
		defer r.stop()
		for range 59 {
			r.want("example.com", policy.Secure, 0)
			time.Sleep(time.Second)
		}
		if n := w.count(w.looks, "example.com"); n != 1 {
			t.Errorf("%d looks in a minute, want 1", n)
		}
		w.publish("example.com", site{id: "2", text: "testing 2h mx.example.com"})
		time.Sleep(2 * time.Second)
		r.want("example.com", policy.Secure, 0)
		time.Sleep(time.Second)
		r.want("example.com", policy.NotFound, 0)
	})
}

func TestRefreshWithoutAPlaceIsTriedAgainLater(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keep(t, stored(t, "example.com", "enforce 24h mx.example.com", time.Now().Add(-13*time.Hour)))
		w.publish("example.com", site{id: "1", text: "enforce 24h mx.example.com", full: true})
		r := start(t, w, Options{})
		defer r.stop()
		time.Sleep(59 * time.Minute)
		r.counts.want(t, "refresh skipped", 1)
		got := w.record(t, "example.com")
		if !got.Failure.At.IsZero() || !got.Refresh.After(time.Now()) {
			t.Errorf("the record is now %+v", got)
		}
		w.publish("example.com", site{id: "1", text: "enforce 24h mx.example.com"})
		time.Sleep(2 * time.Minute)
		r.counts.want(t, "refresh ok", 1)
	})
}

func TestCommandWithoutAPlaceSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce, full: true})
		r := start(t, w, Options{})
		defer r.stop()
		if got, _, err := r.Refresh(t.Context(), dom(t, "example.com")); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v, error %v, want %v", got, err, ErrBusy)
		}
	})
}
