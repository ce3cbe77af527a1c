package boltstore

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

// kept is what a model knows of a domain.
type kept struct {
	now *cache.Record // what was saved last; nil if there is none, or it was removed
	// failing is a failure that was saved in place of a policy that may turn up.
	failing *cache.Record
	past    []cache.Record // what older files may have of it
	lost    bool           // what was saved last may be gone
	undone  bool           // it may be as if it was never saved
	gen     int            // how often there was damage before it was saved or removed
}

// fits reports whether got may be found, while files are copied, and while what
// older ones have is known to be no longer so.
func (k *kept) fits(got cache.Record, copying, known bool) bool {
	may := []cache.Record{}
	if k.now != nil {
		may = append(may, *k.now)
	}
	if k.lost && (k.undone || !known) {
		may = append(may, k.past...)
	}
	for _, r := range slices.Clone(may) {
		if k.failing != nil && !r.Fetched.IsZero() {
			r.Failure, r.LastUse = k.failing.Failure, k.failing.LastUse
			may = append(may, r)
		}
	}
	if k.failing != nil && (copying || k.lost) {
		may = append(may, *k.failing)
	}
	return slices.ContainsFunc(may, func(r cache.Record) bool { return storetest.Equal(r, got) })
}

// check compares all that the store says with the model.
func (m *model) check() {
	synctest.Wait()
	if len(m.s.state.Load().old) == 0 {
		m.files, m.torn = 0, false
	}
	var found []cache.Record
	for _, d := range m.domains {
		k := m.kept[d]
		r, err := m.s.Load(m.Context(), d)
		if !m.allows(k, r, err) {
			m.Errorf("Load(%s): %q fetched %v, %v; kept is %+v", d, r.ID, r.Fetched, err, k)
		}
		if err == nil {
			found = append(found, r)
		}
		m.settle(k, r, err)
	}
	m.checkIndex(found)
	m.checkDue(found)
	m.checkAll(found)
}

// checkIndex counts what is in the indices: nothing leads nowhere.
func (m *model) checkIndex(found []cache.Record) {
	if m.files > 0 {
		return
	}
	want, got := make(map[string]int), make(map[string]int)
	for _, r := range found {
		e, err := encode(r)
		if err != nil {
			m.Fatal(err)
		}
		for _, k := range e.index() {
			want[k.bucket]++
		}
	}
	v := m.s.state.Load().cur.view.Load()
	for _, name := range []string{bucketDue, bucketExpiry, bucketFailed} {
		if err := v.buckets[name].walk(nil, func(_, _ []byte) bool { got[name]++; return true }); err != nil {
			m.Errorf("index %q: %v", name, err)
		}
	}
	if !maps.Equal(got, want) {
		m.Errorf("the indices have %v, want %v", got, want)
	}
}

func (m *model) checkDue(found []cache.Record) {
	now, n := time.Now().Add(time.Duration(m.IntN(1000)-500)*time.Second), m.IntN(2*modelDomains)
	got, err := m.s.Due(m.Context(), now, n)
	if err != nil {
		m.Errorf("Due: %v", err)
	}
	found = slices.DeleteFunc(slices.Clone(found), func(r cache.Record) bool { return r.Refresh.IsZero() || r.Refresh.After(now) })
	slices.SortFunc(found, func(a, b cache.Record) int {
		return cmp.Or(a.Refresh.Compare(b.Refresh), strings.Compare(a.Domain.String(), b.Domain.String()))
	})
	want := make([]policy.Domain, len(found))
	for i := range found {
		want[i] = found[i].Domain
	}
	if m.files == 0 && !slices.Equal(got, want[:min(n, len(want))]) {
		m.Errorf("Due(%d): %v, want %v", n, got, want)
	}
	for _, d := range got { // while files are copied, some are not yet
		if !slices.Contains(want, d) {
			m.Errorf("Due(%d) has %s", n, d)
		}
	}
}

func (m *model) checkAll(found []cache.Record) {
	all, err := m.s.Scan(m.Context(), policy.Domain{}, 2*modelDomains)
	if m.files > 0 {
		if !errors.Is(err, errUncopied) {
			m.Errorf("Scan before the copy: %d records, %v, want %v", len(all), err, errUncopied)
		}
		return
	}
	slices.SortFunc(found, func(a, b cache.Record) int { return strings.Compare(a.Domain.String(), b.Domain.String()) })
	if err != nil || !slices.EqualFunc(all, found, storetest.Equal) {
		m.Errorf("Scan: %d records, %v, want %d", len(all), err, len(found))
	}
	want := Stats{Records: int64(len(found))}
	for _, r := range found {
		e, err := encode(r)
		if err != nil {
			m.Fatal(err)
		}
		want.Bytes += int64(len(e.data))
		if r.Fetched.IsZero() {
			want.Failures++
		}
	}
	got, err := m.s.Stats(m.Context())
	want.Used, want.File = got.Used, got.File
	if err != nil || got != want {
		m.Errorf("Stats: %+v, %v, want %+v", got, err, want)
	}
}

// allows reports whether the store may answer so of a domain.
func (m *model) allows(k *kept, r cache.Record, err error) bool {
	now, copying, unknown := time.Now(), m.files > 0, k.lost || k.now == nil
	switch {
	case err == nil:
		return k.fits(r, copying, now.Before(m.must))
	case errors.Is(err, cache.ErrDamaged):
		sure := k.now != nil && k.gen == m.gen
		return !sure && (copying && m.torn || unknown && (copying || now.Before(m.blur)))
	case errors.Is(err, cache.ErrNotFound):
		return k.now == nil || !now.Before(m.must) && (k.lost || copying && m.torn)
	}
	return false
}

// fading reports whether what was lost may be called damaged, and need not be.
func (m *model) fading() bool {
	now := time.Now()
	return !now.Before(m.must) && (m.files > 0 || now.Before(m.blur))
}

// settle takes an answer for what is kept, once nothing else can turn up.
func (m *model) settle(k *kept, r cache.Record, err error) {
	if m.files > 0 || k.lost && time.Now().Before(m.blur) {
		return
	}
	if k.lost || k.failing != nil {
		if k.now = nil; err == nil {
			k.now = &r
		}
	}
	k.lost, k.undone, k.failing, k.past = false, false, nil, nil
}

// spoil damages the file, if it is large enough to have such a page.
func (m *model) spoil(path, kind, domain string) bool {
	f, err := openFile(path)
	if err != nil {
		m.Fatal(err)
	}
	v := f.view.Load()
	f.close()
	root := v.buckets[bucketRecords].root
	if root == 0 || v.buckets[bucketExpiry].root == 0 {
		return false
	}
	switch kind {
	case "leaf":
		damageLeaf(m.T, path, domain)
		m.loseUnread(path)
	case "branch":
		damageBranch(m.T, path)
	case "index":
		damageIndex(m.T, path)
	case "free pages":
		damageFreelist(m.T, path)
	case "meta page":
		damageMeta(m.T, path)
		m.loseLast()
	}
	now := time.Now()
	m.gen++
	m.files++
	m.torn = m.torn || kind != "index"
	m.must = now.Add(salvageWindow - time.Second)
	if kind != "index" && kind != "free pages" || now.Before(m.blur) {
		m.blur = now.Add(salvageWindow)
	}
	return true
}

// loseUnread notes which records are gone with a page.
func (m *model) loseUnread(path string) {
	f, err := openFile(path)
	if err != nil {
		m.Fatal(err)
	}
	defer f.close()
	for d, k := range m.kept {
		if _, err := f.load(d.String()); errors.Is(err, errDamage) {
			k.lost = true
		}
	}
}

// loseLast notes that the last commit may be gone: then the file is as before it.
func (m *model) loseLast() {
	for d, before := range m.last {
		k := m.kept[d]
		k.lost, k.undone = true, true
		if before.now != nil {
			k.past = append(k.past, *before.now)
			k.now = cmp.Or(k.now, before.now)
			k.failing = cmp.Or(k.failing, before.failing)
		}
	}
}
