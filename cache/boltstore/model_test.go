package boltstore

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
	"tlspolicyd/resolver/policy"
)

var modelSeed = flag.Uint64("seed", 0, "what TestModel chooses by, besides its own seeds; 0 is any")

const (
	modelDomains = 64
	modelSteps   = 60
)

// model says what a store must answer, whatever is done to it.
type model struct {
	*testing.T
	*rand.Rand
	s       *Store
	domains []policy.Domain
	kept    map[policy.Domain]*kept
	last    map[policy.Domain]kept // what the last commit changed, as it was before
	saved   int
	gen     int  // how often there was damage
	files   int  // damaged files that may not be copied yet
	torn    bool // the trees of some cannot be read
	idle    bool // nobody copies them
	// Before must, what may be lost is called damaged; from blur on, nothing is.
	must, blur time.Time
}

// Whatever is done to a store, it answers as a map does; after damage it may say,
// for its time, that it cannot know, and never that there is nothing, nor does
// anything come back that was removed.
func TestModel(t *testing.T) {
	for _, seed := range []uint64{8, 15, 21, 34, cmp.Or(*modelSeed, rand.Uint64())} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runModel(t, seed) })
		})
	}
}

func runModel(t *testing.T, seed uint64) {
	m := &model{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)), kept: make(map[policy.Domain]*kept), last: make(map[policy.Domain]kept),
		s: open(t, Options{Path: filepath.Join(t.TempDir(), "policies.db"), Log: zap.NewNop()}),
	}
	for i := range modelDomains {
		d := storetest.Domain(t, fmt.Sprintf("d%d.example", i))
		m.domains = append(m.domains, d)
		m.kept[d] = new(kept)
	}
	m.fill()
	for i := range modelSteps {
		name := m.step()
		m.check()
		if t.Failed() {
			t.Fatalf("seed %d: step %d, %s", seed, i, name)
		}
	}
	mustClose(t, m.s)
}

// step does one thing, and returns what.
func (m *model) step() string {
	steps := []struct {
		name   string
		weight int
		do     func()
	}{
		{"save", 20, func() { m.save(m.policy(m.any())) }},
		{"touch", 8, m.touch},
		{"fail", 8, m.fail},
		{"remove", 12, func() { m.remove(m.any()) }},
		{"remove all", 1, m.removeAll},
		{"save many", 2, m.fill},
		{"wait", 6, m.wait},
		{"wait for the copy", 3, m.waitCopied},
		{"open again", 4, m.reopen},
		{"end uncleanly", 4, m.reopenKilled},
		{"damage", 6, func() { m.damage("leaf", "branch", "index") }},
		{"close and damage", 10, func() { m.damage("leaf", "branch", "index", "free pages", "meta page") }},
	}
	n := 0
	for _, s := range steps {
		n += s.weight
	}
	n = m.IntN(n)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do()
			return s.name
		}
	}
	return ""
}

func (m *model) any() policy.Domain { return m.domains[m.IntN(len(m.domains))] }

// soon is a time, or sometimes none.
func (m *model) soon() time.Time {
	if m.IntN(6) == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(m.IntN(600)-300) * time.Second)
}

func (m *model) policy(d policy.Domain) cache.Record {
	m.saved++
	now := time.Now()
	return cache.Record{
		Domain: d, ID: fmt.Sprint(m.saved), Text: strings.Repeat("mx: mx.example.com\n", 1+m.IntN(30)),
		Fetched: now, Expires: now.Add(time.Hour * time.Duration(1000+m.IntN(1000))), Refresh: m.soon(), LastUse: now,
	}
}

// changed notes that d is about to change, in a commit with those noted since m.last
// was cleared.
func (m *model) changed(d policy.Domain) *kept {
	k := m.kept[d]
	m.last[d] = *k
	if m.files > 0 && k.now != nil {
		k.past = append(k.past, *k.now)
	}
	return k
}

func (m *model) save(records ...cache.Record) {
	clear(m.last)
	for _, r := range records {
		k := m.changed(r.Domain)
		*k = kept{now: &r, past: k.past, gen: m.gen}
	}
	if err := saveTogether(m.T, m.s, records); err != nil {
		m.Error(err)
	}
}

// fill saves so many records that the buckets have pages of their own.
func (m *model) fill() {
	var records []cache.Record
	for _, d := range m.domains {
		if m.IntN(4) > 0 {
			records = append(records, m.policy(d))
		}
	}
	m.save(records...)
}

// touch changes what is not the policy of a record, as it was found.
func (m *model) touch() {
	r, err := m.s.Load(m.Context(), m.any())
	if err == nil {
		r.LastUse, r.Refresh = time.Now(), m.soon()
		m.save(r)
	}
}

// fail saves a failure, as who could not find a policy, or found that it is no more.
func (m *model) fail() {
	m.saved++
	d := m.any()
	r := storetest.Failed(m.T, d.String(), time.Now())
	r.Failure.ID = fmt.Sprint(m.saved)
	k := m.kept[d]
	if k.now == nil || k.now.Fetched.IsZero() || !m.s.state.Load().salvaging() {
		m.save(r)
		return
	}
	// Every other one was told earlier that there is no policy.
	if found, err := m.s.Load(m.Context(), d); m.saved%2 == 0 && err == nil && !found.Fetched.IsZero() {
		found.Failure = r.Failure
		m.save(found)
		return
	}
	clear(m.last)
	m.changed(d)
	k.failing, k.gen = &r, m.gen
	mustSave(m.T, m.s, r)
}

func (m *model) remove(d policy.Domain) {
	clear(m.last)
	*m.changed(d) = kept{gen: m.gen}
	if err := m.s.Remove(m.Context(), d); err != nil {
		m.Error(err)
	}
}

func (m *model) removeAll() {
	for _, d := range m.domains {
		m.remove(d)
	}
}

func (m *model) wait() {
	if m.files == 0 || !m.idle {
		time.Sleep(time.Duration(m.IntN(90)) * time.Second)
	}
}

func (m *model) waitCopied() {
	if m.idle {
		path := m.s.o.Path
		mustClose(m.T, m.s)
		m.open(path, false)
	}
	waitSalvaged(m.T, m.s)
}

// reopen closes the store and opens it again.
func (m *model) reopen() {
	path := m.s.o.Path
	mustClose(m.T, m.s)
	m.open(path, m.IntN(2) == 0)
}

// reopenKilled opens the files as they are while the store is open, as after a kill.
func (m *model) reopenKilled() {
	synctest.Wait() // nobody writes
	path, dir := m.s.o.Path, m.TempDir()
	files, err := filepath.Glob(path + "*")
	if err != nil {
		m.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o600)
		}
		if err != nil {
			m.Fatal(err)
		}
	}
	mustClose(m.T, m.s)
	m.open(filepath.Join(dir, filepath.Base(path)), m.IntN(2) == 0)
}

func (m *model) open(path string, idle bool) {
	o := Options{Path: path, Log: zap.NewNop()}
	if m.idle = idle; idle {
		m.s = uncopied(m.T, o)
	} else {
		m.s = open(m.T, o)
	}
	if m.files > 0 && (m.torn || time.Now().Before(m.blur)) {
		m.blur = time.Now().Add(salvageWindow)
	}
}

// damage spoils a page of the file, closed or open, and has the store find that.
func (m *model) damage(kinds ...string) {
	time.Sleep(time.Second) // the time is in the name of the file that is set aside
	m.check()
	if m.files == keepDamaged || m.fading() {
		return // the oldest would not be copied, or what was lost may count as lost again, or not
	}
	kind, d := kinds[m.IntN(len(kinds))], m.any()
	path, closed := m.s.o.Path, slices.Contains(kinds, "meta page")
	if closed {
		mustClose(m.T, m.s)
	}
	if m.spoil(path, kind, d.String()) {
		m.Logf("damage to the %s", kind)
	}
	if closed {
		m.open(path, m.IntN(2) == 0)
	}
	_, _ = m.s.Load(m.Context(), d)
	_, _ = m.s.Purge(m.Context(), time.Now())
	n := len(m.s.state.Load().old)
	if m.idle && n < m.files {
		m.Errorf("%d files are damaged, want %d", n, m.files)
	}
	m.files = max(m.files, n) // the last commit may have been the end of a copy
}
