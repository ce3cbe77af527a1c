package boltstore

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tlspolicyd/cache/storetest"
)

var kills = flag.Int("kills", 20, "how many times a writing process is killed")

// said begins a line in which the writer says what is durable.
const said = "durable "

// TestHelperWriter is the process that is killed: it saves records from
// several goroutines and says so after each. Without arguments it is no test.
func TestHelperWriter(t *testing.T) {
	if flag.NArg() != 2 {
		return
	}
	round := flag.Arg(1)
	s := open(t, Options{Path: flag.Arg(0), MaxBytes: 64 << 20})
	var out sync.Mutex
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				r := storetest.Record(t, fmt.Sprintf("d%d-%d.example", g, i%50), time.Now())
				r.ID = round + "x" + strconv.Itoa(i)
				r.Text += strings.Repeat("#", i*37%9000)
				if err := s.Save(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
				out.Lock()
				fmt.Printf("%s%s %s\n", said, r.Domain, r.ID)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

// killWriter runs a writer for a while, kills it, and notes what it said.
func killWriter(t *testing.T, path string, round int, durable map[string]string) {
	t.Helper()
	cmd := child(t, "TestHelperWriter", path, strconv.Itoa(round))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	stop := 1 + rand.IntN(150) // lines until it is killed
	for n := 0; lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 3 || words[0]+" " != said {
			continue
		}
		durable[words[1]] = words[2]
		if n++; n == stop {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err == nil {
		t.Fatal("the writer ended by itself")
	}
}

func TestWhatWasSavedIsThereAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policies.db")
	durable := map[string]string{}
	for round := range *kills {
		killWriter(t, path, round, durable)
		s := open(t, Options{Path: path})
		for name, id := range durable {
			r, err := s.Load(t.Context(), storetest.Domain(t, name))
			if err != nil {
				t.Errorf("round %d: Load(%s): %v, want id %s or later", round, name, err, id)
				continue
			}
			if order(t, r.ID) < order(t, id) {
				t.Errorf("round %d: %s has id %s, though %s was durable", round, name, r.ID, id)
			}
		}
		if damaged, err := filepath.Glob(path + ".damaged-*"); err != nil || len(damaged) > 0 {
			t.Fatalf("round %d: %v was set aside, %v", round, damaged, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(durable) < 20 {
		t.Errorf("only %d domains were saved", len(durable))
	}
}

// order is the place of an id in the order in which they were saved.
func order(t *testing.T, id string) int {
	t.Helper()
	round, i, _ := strings.Cut(id, "x")
	r, err1 := strconv.Atoi(round)
	n, err2 := strconv.Atoi(i)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return r*1_000_000 + n
}
