package cache

import (
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

func TestADomainThatWasIdleWhileItsRefreshFailedIsWoken(t *testing.T) {
	// A refresh failed, then nobody asked for so long that no other was tried.
	bubble(t, func(t *testing.T, w *world) {
		const text = "enforce 720h mx.example.com"
		rec := stored(t, "example.com", text, time.Now().Add(-40*time.Hour))
		rec.Refresh = time.Time{}
		rec.Failure = policy.Failure{ID: "1", At: time.Now().Add(-30 * time.Hour), Count: 1, Kind: "status", Reason: "HTTP status 404"}
		w.keep(t, rec)
		w.publish("example.com", site{id: "1", text: text})
		r := start(t, w, Options{})
		defer r.stop()
		r.want("example.com", policy.Secure, 0)
		time.Sleep(5 * time.Second)
		r.counts.want(t, "refresh ok", 1)
		if w.record(t, "example.com").Refresh.IsZero() {
			t.Error("not due for refresh")
		}
	})
}
