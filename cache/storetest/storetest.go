// Package storetest is the contracts of cache.Store ([Run]) and of cache.Shared
// ([RunShared]) as tests: every store of the project passes its own, the ones
// that only tests use too.
//
// It asks nothing of a store but the methods of its interface, uses records with
// times in whole seconds, a policy file of at most 64 KiB, and less than
// 10 MiB altogether.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// Option says more about the store under test.
type Option func(*suite)

// WithReopen tells how to close a store and open it again, as after a restart
// of the program. What was saved must then still be there.
func WithReopen(reopen func(t *testing.T, s cache.Store) cache.Store) Option {
	return func(s *suite) { s.reopen = reopen }
}

// WithLimit tells how to open a new store that is full with less than 10 MiB,
// and with which error it refuses then.
func WithLimit(full error, open func(t *testing.T) cache.Store) Option {
	return func(s *suite) { s.full, s.small = full, open }
}

type suite struct {
	open   func(t *testing.T) cache.Store
	reopen func(t *testing.T, s cache.Store) cache.Store
	small  func(t *testing.T) cache.Store
	full   error
}

// Run tests a store against the contract. Each call of open returns a new
// store without records, which open closes at the end of its test.
func Run(t *testing.T, open func(t *testing.T) cache.Store, options ...Option) {
	s := suite{open: open}
	for _, o := range options {
		o(&s)
	}
	for _, c := range []struct {
		name string
		test func(t *testing.T, s cache.Store)
	}{
		{"no record is ErrNotFound", testUnknown},
		{"what was saved is loaded, byte for byte", testRoundTrip},
		{"the record that was saved last is kept", testReplace},
		{"a removed record is not found", testRemove},
		{"to remove what is not there is no error", testRemoveUnknown},
		{"domains are told apart", testManyDomains},
		{"due records come in the order of refresh", testDueOrder},
		{"at most n records are due", testDueLimit},
		{"a saved record is due by its new refresh only", testDueAfterSave},
		{"a removed record is not due", testDueAfterRemove},
		{"a zero refresh is never due", testDueNever},
		{"an expired record is kept", testExpiredIsKept},
		{"a cancelled call has changed nothing, or is done", testCancelled},
		{"concurrent use", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s.open(t)) })
	}
	if s.small != nil {
		t.Run("what has expired gives way in a full store", s.testExpiredGiveWay)
		t.Run("what is in force does not", s.testInForceStay)
	}
	if s.reopen != nil {
		t.Run("what was saved is there after a restart", s.testReopen)
	}
}

// now is the time that the records of this package are made for.
var now = time.Now().Truncate(time.Second)

// Domain parses a domain and fails the test if it is none.
func Domain(t testing.TB, name string) policy.Domain {
	t.Helper()
	d, err := policy.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Record makes a record of name with a policy in force that is to be refreshed
// at refresh. All its times are in whole seconds.
func Record(t testing.TB, name string, refresh time.Time) cache.Record {
	t.Helper()
	return cache.Record{
		Domain:  Domain(t, name),
		Text:    "version: STSv1\nmode: enforce\nmx: mx." + name + "\nmax_age: 604800\n",
		ID:      "20260101T000000",
		Fetched: now.Add(-time.Hour),
		Expires: now.Add(7*24*time.Hour - time.Hour),
		Refresh: refresh.Truncate(time.Second),
		LastUse: now.Truncate(24 * time.Hour),
	}
}

// Failed makes a record of name of which only a failed fetch at is known.
func Failed(t testing.TB, name string, at time.Time) cache.Record {
	t.Helper()
	return cache.Record{
		Domain:  Domain(t, name),
		LastUse: now.Truncate(24 * time.Hour),
		Failure: policy.Failure{ID: "1", At: at.Truncate(time.Second), Count: 1, Kind: "connect", Reason: "connection refused"},
	}
}

// Equal reports whether two records are the same; times are compared as
// moments.
func Equal(a, b cache.Record) bool {
	for _, t := range []struct{ a, b *time.Time }{
		{&a.Fetched, &b.Fetched}, {&a.Expires, &b.Expires}, {&a.Refresh, &b.Refresh}, {&a.LastUse, &b.LastUse},
		{&a.Failure.At, &b.Failure.At}, {&a.Churn.Since, &b.Churn.Since},
	} {
		if !t.a.Equal(*t.b) || t.a.IsZero() != t.b.IsZero() {
			return false
		}
		*t.a, *t.b = time.Time{}, time.Time{}
	}
	return a == b
}

// mustSave saves records.
func mustSave(t *testing.T, s cache.Store, records ...cache.Record) {
	t.Helper()
	for _, r := range records {
		if err := s.Save(t.Context(), r); err != nil {
			t.Fatalf("Save(%s): %v", r.Domain, err)
		}
	}
}

// wantRecord checks that want is what the store holds of its domain.
func wantRecord(t *testing.T, s cache.Store, want cache.Record) {
	t.Helper()
	got, err := s.Load(t.Context(), want.Domain)
	if err != nil || !Equal(got, want) {
		t.Errorf("Load(%s) = %+v, %v, want %+v", want.Domain, brief(got), err, brief(want))
	}
}

// brief shortens the policy file for a message.
func brief(r cache.Record) cache.Record {
	if len(r.Text) > 80 {
		r.Text = fmt.Sprintf("%.80q… (%d bytes)", r.Text, len(r.Text))
	}
	return r
}

// wantNone checks that the store holds nothing of a domain.
func wantNone(t *testing.T, s cache.Store, d policy.Domain) {
	t.Helper()
	if got, err := s.Load(t.Context(), d); !errors.Is(err, cache.ErrNotFound) {
		t.Errorf("Load(%s) = %+v, %v, want cache.ErrNotFound", d, brief(got), err)
	}
}

// wantDue checks what is due.
func wantDue(t *testing.T, s cache.Store, at time.Time, n int, want ...string) {
	t.Helper()
	due, err := s.Due(t.Context(), at, n)
	if err != nil {
		t.Fatalf("Due(%v, %d): %v", at, n, err)
	}
	got := make([]string, len(due))
	for i, d := range due {
		got[i] = d.String()
	}
	if !slices.Equal(got, want) {
		t.Errorf("Due(%v, %d) = %v, want %v", at, n, got, want)
	}
}

func testUnknown(t *testing.T, s cache.Store) {
	wantNone(t, s, Domain(t, "unknown.example"))
	wantDue(t, s, now, 10)
}

func testRoundTrip(t *testing.T, s cache.Store) {
	full := Record(t, "full.example", now.Add(time.Hour))
	full.Failure = policy.Failure{ID: "2", At: now, Count: 3, Kind: "tls", Reason: "certificate \"of\" another host\tü"}
	full.Churn = policy.Churn{Count: 4, Since: now.Add(-time.Minute)}
	empty := cache.Record{Domain: Domain(t, "empty.example"), Failure: policy.Failure{At: now, Count: 1}}
	records := []cache.Record{full, empty, Failed(t, "failed.example", now)}
	for i, text := range []string{
		"a\x00b\x00", "\xff\xfe\xc3(", "\n", "\r\n\r\n", "{}\n{}", "\xef\xbb\xbfversion: STSv1\r\n",
		strings.Repeat("mx: a.example\r\n", 4369) + "!", // 64 KiB
		strings.Repeat("\x00", 64<<10),
	} {
		r := Record(t, fmt.Sprintf("text%d.example", i), time.Time{})
		r.Text = text
		records = append(records, r)
	}
	longest := strings.Repeat("a23456789.", 24) + "example.test0" // 253 bytes
	records = append(records, Record(t, longest, now))
	mustSave(t, s, records...)
	for _, r := range records {
		wantRecord(t, s, r)
	}
}

func testReplace(t *testing.T, s cache.Store) {
	r := Record(t, "a.example", now)
	for _, text := range []string{"short", strings.Repeat("long", 10000), "", "short again"} {
		r.Text = text
		mustSave(t, s, r)
		wantRecord(t, s, r)
	}
	r.Refresh, r.ID = time.Time{}, "2"
	mustSave(t, s, r)
	wantRecord(t, s, r)
	failed := Failed(t, "a.example", now)
	mustSave(t, s, failed)
	wantRecord(t, s, failed)
	mustSave(t, s, r)
	wantRecord(t, s, r)
}

func testRemove(t *testing.T, s cache.Store) {
	a, b := Record(t, "a.example", now), Record(t, "b.example", now)
	mustSave(t, s, a, b)
	if err := s.Remove(t.Context(), a.Domain); err != nil {
		t.Fatal(err)
	}
	wantNone(t, s, a.Domain)
	wantRecord(t, s, b)
	mustSave(t, s, a)
	wantRecord(t, s, a)
}

func testRemoveUnknown(t *testing.T, s cache.Store) {
	a := Record(t, "a.example", now)
	mustSave(t, s, a)
	for range 2 {
		if err := s.Remove(t.Context(), Domain(t, "unknown.example")); err != nil {
			t.Errorf("Remove of an unknown domain: %v", err)
		}
	}
	for range 2 {
		if err := s.Remove(t.Context(), a.Domain); err != nil {
			t.Errorf("Remove, repeated: %v", err)
		}
	}
	wantNone(t, s, a.Domain)
}

func testExpiredIsKept(t *testing.T, s cache.Store) {
	r := Record(t, "expired.example", time.Time{})
	r.Fetched, r.Expires = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	mustSave(t, s, r, Record(t, "other.example", now))
	wantRecord(t, s, r)
}

func (s suite) testReopen(t *testing.T) {
	st := s.open(t)
	kept, gone := Record(t, "kept.example", now), Record(t, "gone.example", now)
	failed := Failed(t, "failed.example", now)
	mustSave(t, st, kept, gone, failed)
	kept.ID, kept.Text = "2", "\x00\xff"
	mustSave(t, st, kept)
	if err := st.Remove(t.Context(), gone.Domain); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		st = s.reopen(t, st)
		wantRecord(t, st, kept)
		wantRecord(t, st, failed)
		wantNone(t, st, gone.Domain)
		wantDue(t, st, now, 10, "kept.example")
	}
}

func testCancelled(t *testing.T, s cache.Store) {
	old := Record(t, "a.example", now)
	mustSave(t, s, old)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want := old
	renewed := Record(t, "a.example", now.Add(time.Hour))
	renewed.ID = "2"
	if err := s.Save(ctx, renewed); err == nil {
		want = renewed
	}
	wantRecord(t, s, want)
	if got, err := s.Load(ctx, old.Domain); err == nil && !Equal(got, want) {
		t.Errorf("Load with a cancelled context = %+v, want %+v or an error", got, want)
	} else if errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged) {
		t.Errorf("Load with a cancelled context: %v, which says something about the domain", err)
	}
	if err := s.Remove(ctx, old.Domain); err != nil {
		wantRecord(t, s, want)
		return
	}
	wantNone(t, s, old.Domain)
}
