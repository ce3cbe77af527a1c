package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// maxLarge is how many large records a full store holds at most.
const maxLarge = 10 << 20 / largeText

const largeText = 32_000

// large makes a record of name that ends at a time.
func large(t *testing.T, name string, expires time.Time) cache.Record {
	t.Helper()
	r := Record(t, name, time.Time{})
	r.Text = strings.Repeat("x", largeText)
	r.Fetched, r.Expires = expires.Add(-time.Hour), expires
	return r
}

// saveLarge saves records until the store refuses one, or until it has as many
// as a full store has at most, and returns their domains.
func (s suite) saveLarge(t *testing.T, st cache.Store, kind string, expires time.Time) []policy.Domain {
	t.Helper()
	var saved []policy.Domain
	for len(saved) < maxLarge {
		r := large(t, fmt.Sprintf("%s%d.example", kind, len(saved)), expires)
		err := st.Save(t.Context(), r)
		if errors.Is(err, s.full) {
			break
		}
		if err != nil {
			t.Fatalf("Save(%s): %v", r.Domain, err)
		}
		saved = append(saved, r.Domain)
	}
	return saved
}

func (s suite) testExpiredGiveWay(t *testing.T) {
	empty := s.saveLarge(t, s.small(t), "forced", now.Add(time.Hour))
	st := s.small(t)
	if saved := s.saveLarge(t, st, "expired", now.Add(-time.Hour)); len(saved) != maxLarge {
		t.Errorf("an expired policy is refused when %d others have expired", len(saved))
	}
	forced := s.saveLarge(t, st, "forced", now.Add(time.Hour))
	if len(forced) < len(empty)*9/10 {
		t.Errorf("%d policies in force have room where others have expired, and %d in an empty store", len(forced), len(empty))
	}
	for _, d := range forced {
		if _, err := st.Load(t.Context(), d); err != nil {
			t.Errorf("Load(%s), in force: %v", d, err)
		}
	}
}

func (s suite) testInForceStay(t *testing.T) {
	st := s.small(t)
	forced := s.saveLarge(t, st, "forced", now.Add(time.Hour))
	if len(forced) == maxLarge {
		t.Fatalf("the store is not full with %d records", maxLarge)
	}
	for _, expires := range []time.Time{now.Add(time.Hour), now.Add(-time.Hour)} {
		if err := st.Save(t.Context(), large(t, "another.example", expires)); !errors.Is(err, s.full) {
			t.Errorf("Save in a store that is full: %v, want %v", err, s.full)
		}
	}
	for _, d := range forced {
		if _, err := st.Load(t.Context(), d); err != nil {
			t.Errorf("Load(%s), in force: %v", d, err)
		}
	}
}
