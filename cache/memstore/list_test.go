package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"tlspolicyd/cache/memstore"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

func TestScanListsAllInOrder(t *testing.T) {
	const n = 250
	s := memstore.New(memstore.Options{})
	var want []string
	for i := range n {
		name := fmt.Sprintf("d%03d.example", (i*101)%n)
		want = append(want, name)
		if err := s.Save(t.Context(), storetest.Record(t, name, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	for _, page := range []int{1, 7, 100, n, n + 1} {
		var got []string
		for after := (policy.Domain{}); ; {
			records, err := s.Scan(t.Context(), after, page)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) > page {
				t.Fatalf("%d records on a page of %d", len(records), page)
			}
			if len(records) == 0 {
				break
			}
			for _, r := range records {
				got = append(got, r.Domain.String())
			}
			after = records[len(records)-1].Domain
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %d domains, want %d in order", page, len(got), len(want))
		}
	}
}

func TestScanOfNothing(t *testing.T) {
	s := memstore.New(memstore.Options{})
	if got, err := s.Scan(t.Context(), policy.Domain{}, 10); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if err := s.Save(t.Context(), storetest.Record(t, "a.example", time.Now())); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Scan(t.Context(), policy.Domain{}, 0); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Scan(ctx, policy.Domain{}, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}
