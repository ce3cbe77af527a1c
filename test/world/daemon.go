//go:build e2e

package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/socketmap"
	"tlspolicyd/test/lab"
)

const (
	// startWithin is how long the daemon may take to start, on a machine that
	// does other things too.
	startWithin = 20 * time.Second
	// stopWithin is how long it may take to end after SIGTERM.
	stopWithin = 20 * time.Second
	// startPoll is how often it is asked whether it answers.
	startPoll = 2 * time.Millisecond
	// pageWithin is how long it may take to send a page.
	pageWithin = 20 * time.Second
)

// Options are what a test wants of the daemon.
type Options struct {
	// Program is the daemon; see [Build].
	Program string
	// State is its state directory; empty means a new one.
	State string
	// Recheck and Refresh are those of the section cache; zero means a
	// second, and a day.
	Recheck, Refresh time.Duration
	// FetchTimeout is sts.fetch_timeout; zero means 5 seconds.
	FetchTimeout time.Duration
	// Disk is cache.disk; empty means the default.
	Disk string
	// Shared is cache.shared.url; empty means that the relay is alone.
	// SharedPassword is cache.shared.password_file.
	Shared, SharedPassword string
	// NoDANE is for tests that measure a policy map alone.
	NoDANE bool
	// LogLevel is log.level; empty means info.
	LogLevel string
	// Listen is where it listens, host:port; empty means a Unix socket.
	Listen string
	// Env is added to its environment, as "NAME=value".
	Env []string
}

// Daemon is a running tlspolicyd.
type Daemon struct {
	// Addr is where it listens, and State its state directory.
	Addr, State string
	// Log is what it says.
	Log lab.Log
	// Started is when its process was started.
	Started time.Time

	cmd  *exec.Cmd
	conf string // the path of its configuration, in its runtime directory
	done chan struct{}
}

// Store is the path of the daemon's store.
func (d *Daemon) Store() string { return filepath.Join(d.State, "policies.db") }

// Start starts the daemon and waits until it answers.
func (w *World) Start(t testing.TB, o Options) *Daemon {
	t.Helper()
	d := w.Launch(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	// Nothing is looked up for this key.
	if _, err := d.First(ctx, ".test"); err != nil {
		t.Fatal(err)
	}
	return d
}

// Launch starts the daemon and waits for nothing.
func (w *World) Launch(t testing.TB, o Options) *Daemon {
	t.Helper()
	if o.State == "" {
		o.State = w.Dir(t)
	}
	run := w.Dir(t)
	if o.Listen == "" {
		o.Listen = "unix:" + filepath.Join(run, "map")
	}
	d := &Daemon{Addr: o.Listen, State: o.State, conf: filepath.Join(run, "tlspolicyd.yaml"), done: make(chan struct{})}
	if err := os.WriteFile(d.conf, []byte(w.conf(o)), 0o644); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(o.Program, "serve", "--config", d.conf)
	d.cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+o.State, "RUNTIME_DIRECTORY="+run)
	d.cmd.Env = append(d.cmd.Env, o.Env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.Log, &d.Log
	d.Started = time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("starting the daemon: %v", err)
	}
	go func() {
		_ = d.cmd.Wait() // the state of the process says how it ended
		close(d.done)
	}()
	t.Cleanup(func() {
		d.Kill(t)
		for _, line := range d.Log.About("DATA RACE", "panic") {
			t.Errorf("the daemon said %q:\n%s", line, d.Log.String())
		}
	})
	return d
}

// PID is the number of its process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// First asks until there is an answer.
func (d *Daemon) First(ctx context.Context, key string) (string, error) {
	for {
		reply, err := d.ask(ctx, key)
		if err == nil {
			return reply, nil
		}
		select {
		case <-d.done:
			return "", fmt.Errorf("the daemon has ended: %v; it said:\n%s", d.cmd.ProcessState, d.Log.String())
		case <-ctx.Done():
			return "", fmt.Errorf("the daemon does not answer: %w; it said:\n%s", err, d.Log.String())
		case <-time.After(startPoll):
		}
	}
}

// Ask asks one question of the map "policy", as Postfix does.
func (d *Daemon) Ask(t testing.TB, key string) string {
	t.Helper()
	reply, err := d.ask(t.Context(), key)
	if err != nil {
		t.Fatalf("asking for %s: %v; the log:\n%s", key, err, d.Log.String())
	}
	return reply
}

func (d *Daemon) ask(ctx context.Context, key string) (string, error) {
	client, err := d.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer client.Close()
	reply, err := client.Lookup(ctx, "policy", key)
	return reply.String(), err
}

// Dial connects to the policy map.
func (d *Daemon) Dial(ctx context.Context) (*socketmap.Client, error) {
	return socketmap.Dial(ctx, d.Addr)
}

// Kill ends the daemon as a crash does: kill -9.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("killing the daemon: %v", err)
	}
	<-d.done
}

// Stop ends the daemon as systemd does, and returns its exit code.
func (d *Daemon) Stop(t testing.TB) int {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stopping the daemon: %v", err)
	}
	return d.Wait(t)
}

// Wait waits for the end of the daemon, and returns its exit code.
func (d *Daemon) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-d.done:
	case <-time.After(stopWithin):
		t.Fatalf("the daemon does not end; it said:\n%s", d.Log.String())
	}
	return d.cmd.ProcessState.ExitCode()
}

// WaitLog waits for a line with all of the words.
func (d *Daemon) WaitLog(t testing.TB, within time.Duration, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if _, err := d.Log.Wait(ctx, 0, words...); err != nil {
		t.Fatalf("the daemon does not say %q within %v; it said:\n%s", words, within, d.Log.String())
	}
}

func (w *World) conf(o Options) string {
	if o.Recheck == 0 {
		o.Recheck = time.Second
	}
	if o.Refresh == 0 {
		o.Refresh = 24 * time.Hour
	}
	if o.FetchTimeout == 0 {
		o.FetchTimeout = 5 * time.Second
	}
	if o.Disk == "" {
		o.Disk = "2GiB"
	}
	if o.LogLevel == "" {
		o.LogLevel = "info"
	}
	return strings.NewReplacer(
		"{listen}", o.Listen, "{dns}", w.DNS.Addr(), "{ca}", w.CAFile(), "{dane}", fmt.Sprint(!o.NoDANE),
		"{recheck}", o.Recheck.String(), "{refresh}", o.Refresh.String(), "{fetch}", o.FetchTimeout.String(),
		"{disk}", o.Disk, "{shared}", o.Shared, "{password}", o.SharedPassword, "{level}", o.LogLevel,
	).Replace(yaml)
}

const yaml = `listen: ["{listen}"]
dns: {servers: ["{dns}"], timeout: 1s, attempts: 2}
sts:
  answer_within: 5s
  fetch_timeout: {fetch}
  ca_file: {ca}
  allow_networks: [127.0.0.0/8]
dane: {enabled: {dane}}
cache: {recheck: {recheck}, refresh: {refresh}, disk: {disk}, shared: {url: "{shared}", password_file: "{password}"}}
log: {level: {level}, format: json}
`

// building is for one build at a time.
var building sync.Mutex

// Build builds the daemon, once for all tests of this process, with the given
// flags of "go build". With GOCOVERDIR set, it counts what the tests run.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	program := filepath.Join(os.Getenv(insideVar), "tlspolicyd"+strings.Join(flags, ""))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	args := append([]string{"build", "-o", program + ".new"}, flags...)
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=tlspolicyd/...")
	}
	if out, err := exec.Command("go", append(args, "tlspolicyd/cmd/tlspolicyd")...).CombinedOutput(); err != nil {
		t.Fatalf("building the daemon: %v: %s", err, out)
	}
	if err := os.Rename(program+".new", program); err != nil {
		t.Fatal(err)
	}
	return program
}
