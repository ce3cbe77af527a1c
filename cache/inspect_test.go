package cache

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// steps writes steps as lines such as "1h0m0s the policy ends …", with the
// time from now and the first words.
func steps(now time.Time, list []Step) string {
	var lines []string
	for _, s := range list {
		words := strings.Fields(s.What)
		lines = append(lines, fmt.Sprintf("%s %s", s.At.Sub(now).Round(time.Second), strings.Join(words[:min(5, len(words))], " ")))
	}
	return strings.Join(lines, "\n")
}

func TestInspectSaysWhatComesNext(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, w *world, r *relay)
		source  string
		next    string
	}{
		{"never seen", func(*testing.T, *world, *relay) {}, "",
			"0s nothing is known: the next"},
		{"in memory", func(_ *testing.T, w *world, r *relay) {
			w.publish("example.com", site{id: "1", text: enforce})
			r.want("example.com", policy.Secure, 0)
		}, SourceMemory,
			"1m0s the next question from here\n1h0m0s the policy is fetched again,\n2h0m0s the policy ends, unless it"},
		{"in memory, with hosts", func(_ *testing.T, w *world, r *relay) {
			w.publish("example.com", site{id: "1", text: enforce, dane: hosts(policy.HostPlain)})
			r.wantAs("example.com", policy.ClassSTS, policy.Secure, 0)
		}, SourceMemory,
			"1m0s the next question from here\n3m45s the next question that needs\n5m0s what is known of the\n" +
				"1h0m0s the policy is fetched again,\n2h0m0s the policy ends, unless it"},
		{"refresh fails", func(_ *testing.T, w *world, r *relay) {
			w.publish("example.com", site{id: "1", text: enforce})
			r.want("example.com", policy.Secure, 0)
			w.publish("example.com", site{})
			time.Sleep(time.Hour + 10*time.Second)
		}, SourceMemory,
			"0s the next question from here\n4m50s the policy is fetched again,\n59m50s the policy ends, unless it"},
		{"absent", func(_ *testing.T, _ *world, r *relay) { r.want("example.com", policy.NotFound, 0) }, SourceMemory,
			"3m45s the next question from here"},
		{"in the store", func(t *testing.T, w *world, _ *relay) {
			w.keep(t, stored(t, "example.com", enforce, time.Now()))
		}, SourceStore,
			"0s the next question from here\n1h0m0s the policy is fetched again,\n2h0m0s the policy ends, unless it"},
		{"idle soon", func(t *testing.T, w *world, _ *relay) {
			r := stored(t, "example.com", enforce, time.Now())
			r.LastUse = time.Now().Add(-720*time.Hour + 10*time.Minute)
			w.keep(t, r)
		}, SourceStore,
			"0s the next question from here\n10m0s the policy is not fetched\n2h0m0s the policy ends, unless it"},
		{"expired", func(t *testing.T, w *world, _ *relay) {
			r := stored(t, "example.com", enforce, time.Now())
			r.Fetched, r.Expires, r.Refresh = time.Now().Add(-2*time.Hour), time.Now(), time.Time{}
			w.keep(t, r)
		}, SourceStore, "0s the next question from here"},
		{"unwritten", func(_ *testing.T, w *world, r *relay) {
			w.saveErr = errors.New("disk full")
			w.publish("example.com", site{id: "1", text: enforce})
			r.want("example.com", policy.Secure, 0)
			r.memory.remove(dom(r.t, "example.com"))
		}, SourceUnwritten,
			"0s the next question from here\n1h0m0s the policy is fetched again,\n2h0m0s the policy ends, unless it"},
		{"unreadable", func(_ *testing.T, w *world, _ *relay) { w.loadErr["example.com"] = ErrDamaged }, "",
			"0s the next question asks the"},
		{"text that is no policy", func(t *testing.T, w *world, _ *relay) {
			w.keep(t, stored(t, "example.com", "?", time.Now()))
		}, "", "0s the next question asks the"},
		{"lost", func(_ *testing.T, w *world, r *relay) {
			w.loadErr["example.com"] = errors.New("I/O error")
			r.want("example.com", policy.Temp, 0)
		}, SourceMemory, "5s the next question from here"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := start(t, w, Options{})
				defer r.stop()
				test.prepare(t, w, r)
				synctest.Wait()
				before := w.count(w.looks, "example.com")
				v := r.Inspect(t.Context(), dom(t, "example.com"))
				if got := steps(v.Now, v.Next); v.Source != test.source || got != test.next {
					t.Errorf("source %q, next:\n%s\nwant %q:\n%s", v.Source, got, test.source, test.next)
				}
				for _, s := range v.Next {
					if s.At.Before(v.Now) {
						t.Errorf("%q lies in the past", s.What)
					}
				}
				if w.count(w.looks, "example.com") != before {
					t.Error("to inspect a domain had it looked up")
				}
			})
		})
	}
}

func TestInspectTellsOfErrorsOfTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.loadErr["example.com"] = ErrDamaged
		r := start(t, w, Options{})
		defer r.stop()
		if v := r.Inspect(t.Context(), dom(t, "example.com")); !v.Known() || !errors.Is(v.StoreErr, ErrDamaged) {
			t.Errorf("got %+v, want %v", v, ErrDamaged)
		}
		w.loadTakes = time.Hour
		begun := time.Now()
		if v := r.Inspect(t.Context(), dom(t, "other.example")); v.StoreErr == nil || time.Since(begun) != storeTimeout {
			t.Errorf("got %v after %s, want an error after %s", v.StoreErr, time.Since(begun), storeTimeout)
		}
	})
}

func TestInspectIsNoUse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{id: "1", text: enforce})
		r := start(t, w, Options{})
		defer r.stop()
		used := time.Unix(time.Now().Unix(), 0)
		r.want("example.com", policy.Secure, 0)
		time.Sleep(90 * time.Minute)
		for range 2 {
			if v := r.Inspect(t.Context(), dom(t, "example.com")); !v.LastUse.Equal(used) {
				t.Errorf("last use %s, want %s", v.LastUse, used)
			}
		}
	})
}

func TestInspectShowsHostsAndWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.publish("example.com", site{dane: hosts(policy.HostUsable)})
		w.lookTakes, w.daneTakes = 2*time.Second, 5*time.Second
		r := start(t, w, Options{})
		defer r.stop()
		go r.askAs("example.com", policy.ClassDANE)
		time.Sleep(time.Second)
		v := r.Inspect(t.Context(), dom(t, "example.com"))
		var what []string
		for _, s := range v.UnderWay {
			what = append(what, s.What)
		}
		if want := []string{"the MX hosts of example.com are being looked up", "the domain is being looked up"}; !slices.Equal(what, want) {
			t.Errorf("under way: %q, want %q", what, want)
		}
		time.Sleep(10 * time.Second)
		v = r.Inspect(t.Context(), dom(t, "example.com"))
		if len(v.UnderWay) != 0 || len(v.Hops) != 1 || v.Hops[0].DANE.Hosts[0].State != policy.HostUsable {
			t.Errorf("got %+v", v)
		}
	})
}

// What the shared store holds is shown beside the rest, or why it cannot be read.
func TestInspectShowsTheSharedRecord(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s, a, _ := learned(t, w, 0)
		defer a.stop()
		synctest.Wait()
		v := a.Inspect(t.Context(), dom(t, "a.example"))
		if v.Shared == nil || v.Shared.ID != "1" || v.SharedErr != nil {
			t.Errorf("the shared record is %+v, %v", v.Shared, v.SharedErr)
		}
		s.set(func() { s.err = ErrUnavailable })
		v = a.Inspect(t.Context(), dom(t, "a.example"))
		if v.Shared != nil || !errors.Is(v.SharedErr, ErrUnavailable) || !strings.HasPrefix(v.SharedErr.Error(), "the record could not be read: ") {
			t.Errorf("without the shared store, its record is %+v, %v", v.Shared, v.SharedErr)
		}
		if v.Record == nil || v.Source != SourceMemory {
			t.Errorf("without the shared store, the rest is %+v", v)
		}
	})
}
