package cache

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"tlspolicyd/resolver/policy"
)

// fill sets every field of what v points to, to a value that depends on seed.
// What it cannot set is told by the test that finds it zero.
func fill(v reflect.Value, seed int) {
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Now().Add(time.Duration(seed) * time.Second)))
		return
	case *policy.STSPolicy:
		v.Set(reflect.ValueOf(&policy.STSPolicy{Text: fmt.Sprint(seed)}))
		return
	case []policy.MXHost:
		v.Set(reflect.ValueOf([]policy.MXHost{{Name: fmt.Sprint(seed)}}))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), seed+i+1)
			}
		}
	case reflect.String:
		v.SetString(fmt.Sprint(seed))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(seed))
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(1)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// complete makes a fact of which every field says something.
func complete[T any](t *testing.T) T {
	t.Helper()
	var fact T
	v := reflect.ValueOf(&fact).Elem()
	fill(v, 1)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("%s is not filled", v.Type().Field(i).Name)
		}
	}
	return fact
}

func TestMemoryLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		d := dom(t, "example.com")
		hop := policy.NextHop{Domain: d, Port: 25, SmartHost: true}
		plain := policy.STS{Record: policy.RecordAbsent, Detail: "no record", Looked: now, Recheck: now.Add(time.Hour)}
		lost := plain
		lost.Lost = true
		found := plain
		found.Record = policy.RecordFound
		tests := map[string]*entry{
			"all":          {sts: complete[policy.STS](t), known: true, damaged: now, fresh: now.Add(1), renew: now.Add(2)},
			"absence":      (*entry)(nil).withSTS(now, &plain, &use{}),
			"lost":         (*entry)(nil).withSTS(now, &lost, &use{}),
			"found":        (*entry)(nil).withSTS(now, &found, &use{}),
			"nothing":      (*entry)(nil).withSTS(now, &policy.STS{}, &use{}),
			"not known":    (*entry)(nil).withHop(now, hop, complete[policy.DANE](t)),
			"damaged":      {sts: plain, known: true, damaged: now, fresh: plain.Recheck, renew: plain.Recheck},
			"renewed late": {sts: plain, known: true, fresh: plain.Recheck, renew: plain.Recheck},
		}
		for name, e := range tests {
			if e.use == nil {
				e.use = &use{}
			}
			e.use.last.Store(now.Unix())
			tests[name+" with a next-hop"] = e.withHop(now, hop, complete[policy.DANE](t))
		}
		for name, want := range tests {
			m, err := newMemory(10)
			if err != nil {
				t.Fatal(err)
			}
			m.started = now.Add(-time.Hour)
			m.put(now, d, want)
			got := m.peek(d)
			if got.use.last.Load() != want.use.last.Load() {
				t.Errorf("%s: last used at %d, want %d", name, got.use.last.Load(), want.use.last.Load())
			}
			got.use = want.use
			if len(want.hops) == 0 {
				got.hops = want.hops
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got\n%+v, want\n%+v", name, got, want)
			}
		}
	})
}

// A question gets the fact of its own next-hop, and of no other.
func TestAQuestionFindsItsNextHop(t *testing.T) {
	m, err := newMemory(10)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d := dom(t, "example.com")
	hops := []policy.NextHop{{Domain: d, Port: 25}, {Domain: d, Port: 587}, {Domain: d, Port: 25, SmartHost: true}}
	var e *entry
	for i, hop := range hops {
		e = e.withHop(now, hop, policy.DANE{MX: policy.MXSecure, Detail: fmt.Sprint(i), Expires: now.Add(time.Hour)})
	}
	m.put(now, d, e)
	for i, hop := range append(hops, policy.NextHop{Domain: d, Port: 465}) {
		var got found
		if !m.get(hop, &got) || got.hasHop != (i < len(hops)) {
			t.Errorf("%s: got %+v", hop, got)
		}
		if got.hasHop && (got.hop.hop != hop || got.hop.dane.Detail != fmt.Sprint(i)) {
			t.Errorf("%s: got %+v", hop, got.hop)
		}
	}
}
