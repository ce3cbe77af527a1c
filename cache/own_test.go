package cache

import (
	"context"
	"runtime"
	"testing"
	"time"
	"weak"

	"tlspolicyd/resolver/policy"
)

// reading is a policy inside of all that was needed to read it.
type reading struct {
	lines  map[string]int
	policy policy.STSPolicy
}

// reader hands out policies inside of readings, and knows which of those are
// still there.
type reader struct {
	*world
	readings []weak.Pointer[reading]
}

func (r *reader) parse(text string) (*policy.STSPolicy, error) {
	p, err := parseTest(text)
	if err != nil {
		return nil, err
	}
	return r.inside(p), nil
}

func (r *reader) Fetch(ctx context.Context, domain policy.Domain, prev policy.STS) policy.STS {
	next := r.world.Fetch(ctx, domain, prev)
	if next.Policy != nil {
		next.Policy = r.inside(next.Policy)
	}
	return next
}

func (r *reader) inside(p *policy.STSPolicy) *policy.STSPolicy {
	in := &reading{lines: map[string]int{p.Text: 1}, policy: *p}
	r.readings = append(r.readings, weak.Make(in))
	return &in.policy
}

// What was needed to read a policy goes, whether the policy came from the store
// or from the network.
func TestOnlyThePolicyIsKept(t *testing.T) {
	r := &reader{world: newWorld()}
	r.publish("fetched.example", site{id: "1", text: enforce})
	r.keep(t, stored(t, "stored.example", enforce, time.Now().Add(-time.Minute)))
	c, err := New(Options{Store: r, Resolver: r, Parse: r.parse})
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		for _, name := range []string{"fetched.example", "stored.example"} {
			hop := policy.NextHop{Domain: dom(t, name), Port: 25}
			if v := c.Lookup(t.Context(), hop, policy.ClassSTSOnly); v.Kind != policy.Secure {
				t.Errorf("%s: got %s (%s), want %s", name, v.Kind, v.Reason, policy.Secure)
			}
		}
	}
	ask()
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	if len(r.readings) != 2 {
		t.Fatalf("%d policies were read, want 2", len(r.readings))
	}
	for i, p := range r.readings {
		if p.Value() != nil {
			t.Errorf("what was needed to read policy %d is kept", i)
		}
	}
	ask()
}
