//go:build e2e

package lifecycle_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"tlspolicyd/test/world"
)

// large is a policy that takes about 40 KiB in the store.
func large(name, domain string) string {
	return enforce(name, domain, day) + strings.Repeat("padding: "+strings.Repeat("x", 1000)+"\n", 40)
}

// retried is how long it may take until what could not be stored is stored.
const retried = 15 * time.Second

// With a full disk the daemon starts, answers what it knows, learns, answers
// what it learned, and stores it when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	const known, fresh = "known.test", "fresh.test"
	w := world.New(t)
	o := world.Options{Program: world.Build(t, "-race"), State: w.Dir(t)}
	mount(t, o.State, "size=2m")
	d := w.Start(t, o)
	w.Publish(t, known, "1", large("mx", known))
	want(t, d, known, secure("mx", known))
	filler := fill(t, o.State)
	d = restart(t, w, d, o)
	want(t, d, known, secure("mx", known))
	w.Publish(t, fresh, "1", large("mx", fresh))
	want(t, d, fresh, secure("mx", fresh))
	d.WaitLog(t, slack, `"level":"error"`, "a policy could not be stored", fresh)
	want(t, d, fresh, secure("mx", fresh))

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	waitStored(t, d, mx("mx", fresh))
	w.Die()
	d = restart(t, w, d, o)
	want(t, d, fresh, secure("mx", fresh))
	want(t, d, known, secure("mx", known))
}

// On a file system that is read-only the daemon starts, answers what it knows
// and what it learns, and stores that when it can.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	const known, fresh = "known.test", "fresh.test"
	w := world.New(t)
	o := world.Options{Program: world.Build(t, "-race"), State: w.Dir(t)}
	mount(t, o.State, "")
	d := w.Start(t, o)
	w.Publish(t, known, "1", enforce("mx", known, day))
	want(t, d, known, secure("mx", known))
	if code := d.Stop(t); code != 0 {
		t.Fatalf("the daemon ended with %d", code)
	}
	remount(t, o.State, syscall.MS_RDONLY)
	d = w.Start(t, o)
	d.WaitLog(t, slack, `"level":"warn"`, "cannot be written to")
	want(t, d, known, secure("mx", known))
	w.Publish(t, fresh, "1", enforce("mx", fresh, day))
	want(t, d, fresh, secure("mx", fresh))

	remount(t, o.State, 0)
	waitStored(t, d, mx("mx", fresh))
	d.WaitLog(t, slack, "the store can be written to again")
	w.Die()
	d = restart(t, w, d, o)
	want(t, d, fresh, secure("mx", fresh))
	want(t, d, known, secure("mx", known))
}

// A file that is damaged, before the start or while the daemon runs, never
// becomes "no policy": a domain whose record is lost is deferred while nobody
// can say what its policy was, and answered when its policy host can.
func TestDamage(t *testing.T) {
	t.Parallel()
	const domains = 60
	domain := func(i int) string { return fmt.Sprintf("d%d.test", i) }
	half := func(t *testing.T, path string) { truncate(t, path, size(t, path)/2) }
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, path string)
	}{
		{"truncated to nothing", func(t *testing.T, path string) { truncate(t, path, 0) }},
		{"truncated to two pages", func(t *testing.T, path string) { truncate(t, path, 8192) }},
		{"truncated to half", half},
		{"overwritten here and there", func(t *testing.T, path string) { overwrite(t, path, 0.3) }},
		{"overwritten", func(t *testing.T, path string) { overwrite(t, path, 1) }},
	} {
		for _, running := range []string{"stopped", "running"} {
			t.Run(c.name+" while "+running, func(t *testing.T) {
				t.Parallel()
				w, d := start(t, world.Options{})
				for i := range domains {
					w.Publish(t, domain(i), "1", enforce("mx", domain(i), day))
					want(t, d, domain(i), secure("mx", domain(i)))
				}
				w.Die()
				if running == "running" {
					d = restart(t, w, d, world.Options{})
					c.damage(t, d.Store())
				} else {
					d.Kill(t)
					c.damage(t, d.Store())
					d = restart(t, w, d, world.Options{})
				}
				right := 0
				for i := range domains {
					got := d.Ask(t, domain(i))
					if got == secure("mx", domain(i)) {
						right++
					} else if !strings.HasPrefix(got, "TEMP ") {
						t.Fatalf("%s: the reply is %q, want the policy or TEMP; the log:\n%s", domain(i), got, d.Log.String())
					}
				}
				t.Logf("%d of %d policies were saved", right, domains)
				if right < domains {
					d.WaitLog(t, slack, `"level":"error"`, "the store is damaged")
				}

				w.Revive()
				for i := range domains {
					w.Publish(t, domain(i), "2", enforce("new", domain(i), day))
				}
				for i := range domains {
					recovers(t, d, domain(i), secure("new", domain(i)))
				}
				w.Die()
				d = restart(t, w, d, world.Options{})
				for i := range domains {
					want(t, d, domain(i), secure("new", domain(i)))
				}
			})
		}
	}
}

// One record that cannot be read concerns its own domain alone.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	const broken, intact = "broken.test", "intact.test"
	w, d := start(t, world.Options{})
	for _, domain := range []string{broken, intact} {
		w.Publish(t, domain, "1", enforce("mx", domain, day))
		want(t, d, domain, secure("mx", domain))
	}
	d.Kill(t)
	data, err := os.ReadFile(d.Store())
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.ReplaceAll(data, []byte("mx: mx.broken.test"), []byte("mx: mx.forged.test"))
	if bytes.Equal(changed, data) {
		t.Fatal("the file does not hold the policy that was learned")
	}
	if err := os.WriteFile(d.Store(), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Die()
	d = restart(t, w, d, world.Options{})
	if got := d.Ask(t, broken); !strings.HasPrefix(got, "TEMP ") {
		t.Errorf("%s: the reply is %q, want TEMP", broken, got)
	}
	want(t, d, intact, secure("mx", intact))
	want(t, d, "unknown.test", world.NotFound)
	w.Revive()
	recovers(t, d, broken, secure("mx", broken))
	w.Die()
	d = restart(t, w, d, world.Options{})
	want(t, d, broken, secure("mx", broken))
	want(t, d, intact, secure("mx", intact))
}

// A file that a newer program wrote is left alone.
func TestNewerFile(t *testing.T) {
	t.Parallel()
	w, d := start(t, world.Options{})
	d.Stop(t)
	db, err := bolt.Open(d.Store(), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("format"), []byte{99}) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(d.Store())
	if err != nil {
		t.Fatal(err)
	}
	d = w.Launch(t, world.Options{Program: world.Build(t, "-race"), State: d.State})
	if code := d.Wait(t); code != 2 {
		t.Errorf("the daemon ended with %d, want 2", code)
	}
	if out := d.Log.String(); !strings.Contains(out, "written by a newer program") {
		t.Errorf("the daemon said:\n%s", out)
	}
	if after, err := os.ReadFile(d.Store()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed: %v", err)
	}
}

// When the store holds all that it may, policies of domains that are not in it
// are answered and not stored; what is in it stays, and is replaced when it
// changes.
func TestFullStore(t *testing.T) {
	t.Parallel()
	const domains = 50
	domain := func(i int) string { return fmt.Sprintf("d%d.test", i) }
	o := world.Options{Disk: "1MiB"}
	w, d := start(t, o)
	for i := range domains {
		w.Publish(t, domain(i), "1", large("old", domain(i)))
		want(t, d, domain(i), secure("old", domain(i)))
	}
	d.WaitLog(t, slack, `"level":"error"`, "a policy could not be stored", "the store is full")
	w.Publish(t, domain(0), "2", large("new", domain(0)))
	time.Sleep(recheck)
	recovers(t, d, domain(0), secure("new", domain(0)))
	want(t, d, domain(domains-1), secure("old", domain(domains-1)))
	if n := size(t, d.Store()); n > 1<<20 {
		t.Errorf("the file has %d bytes, want 1 MiB at most", n)
	}

	w.Die()
	d = restart(t, w, d, o)
	want(t, d, domain(0), secure("new", domain(0)))
	stored := 1
	for i := 1; i < domains; i++ {
		got := d.Ask(t, domain(i))
		if got == secure("old", domain(i)) {
			stored++
		} else if i < 10 || got != world.NotFound {
			t.Errorf("%s: the reply is %q", domain(i), got)
		}
	}
	if stored < 15 || stored == domains {
		t.Errorf("%d policies were stored, want 15 at least and not all", stored)
	}
}

// waitStored waits until a text is in the file, and the commit that wrote it is
// over.
func waitStored(t *testing.T, d *world.Daemon, text string) {
	t.Helper()
	for end := time.Now().Add(retried); ; time.Sleep(50 * time.Millisecond) {
		data, err := os.ReadFile(d.Store())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(text)) {
			time.Sleep(slack / 2)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not stored after %v; the log:\n%s", text, retried, d.Log.String())
		}
	}
}

// recovers asks until the reply is as wanted. Before that, mail is deferred or
// the answer is an older one.
func recovers(t *testing.T, d *world.Daemon, domain, reply string) {
	t.Helper()
	got := d.Ask(t, domain)
	for end := time.Now().Add(10 * time.Second); got != reply && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got == world.NotFound {
			t.Fatalf("%s: the reply is NOTFOUND; the log:\n%s", domain, d.Log.String())
		}
		got = d.Ask(t, domain)
	}
	if got != reply {
		t.Fatalf("%s: the reply is %q, want %q; the log:\n%s", domain, got, reply, d.Log.String())
	}
}

// mount makes a directory a file system of its own.
func mount(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mounting a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
}

// remount changes the flags of a file system.
func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, ""); err != nil {
		t.Fatalf("mounting anew: %v", err)
	}
}

// fill leaves no room in a file system, and returns the file that takes it.
func fill(t *testing.T, dir string) string {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	return name
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// overwrite writes random bytes to a part of the pages of a file. The numbers
// are the same every time.
func overwrite(t *testing.T, path string, part float64) {
	t.Helper()
	const page = 4096
	random := rand.New(rand.NewPCG(1, 2))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < len(data); at += page {
		if random.Float64() >= part {
			continue
		}
		noise := make([]byte, page)
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		if _, err := f.WriteAt(noise, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
}
