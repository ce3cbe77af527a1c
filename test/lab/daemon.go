//go:build e2e

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopWithin is how long the daemon may take to end after SIGTERM.
const stopWithin = 15 * time.Second

// DaemonOptions are what a test wants of the daemon's configuration.
type DaemonOptions struct {
	// Name is that of its state: a daemon of the same name remembers what the
	// one before it learned. Empty means relay.
	Name string
	// Listen is host:port; empty means [PolicyMap].
	Listen string
	// DNS is the server to ask, host:port; empty means /etc/resolv.conf.
	DNS string
	// AnswerWithin is sts.answer_within, Recheck is cache.recheck; zero means
	// three seconds, and a minute.
	AnswerWithin, Recheck time.Duration
	// HTTP is admin.http, host:port; empty means none.
	HTTP string
}

// Daemon is tlspolicyd, as it is started on a relay.
type Daemon struct {
	// Addr is where it listens.
	Addr string
	// Log is its log, with every question in it.
	Log *Log

	proc          *process
	program, conf string
	env           []string
	http          string
}

// StartDaemon builds the daemon, with the race detector, and starts it.
func (l *Lab) StartDaemon(t testing.TB, o DaemonOptions) *Daemon {
	t.Helper()
	if o.Name == "" {
		o.Name = "relay"
	}
	if o.Listen == "" {
		o.Listen = PolicyMap
	}
	program, err := l.build()
	if err != nil {
		t.Fatalf("building the daemon: %v", err)
	}
	dir := filepath.Join(l.dir, "daemon-"+o.Name)
	conf := filepath.Join(dir, "tlspolicyd.yaml")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(conf, []byte(l.daemonConf(o)), 0o644)); err != nil {
		t.Fatalf("configuring the daemon: %v", err)
	}
	cmd := exec.Command(program, "serve", "--config", conf)
	env := append(os.Environ(), "STATE_DIRECTORY="+dir, "RUNTIME_DIRECTORY="+dir)
	cmd.Env = env
	proc, err := start(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{
		Addr: o.Listen, Log: &proc.out,
		proc: proc, program: program, conf: conf, env: env, http: o.HTTP,
	}
	if err := proc.until(d.answers); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, line := range d.Log.About("DATA RACE", "panic") {
			t.Errorf("the daemon said %q:\n%s", line, d.Log.String())
		}
	})
	return d
}

// Ask asks the daemon one question, as Postfix does.
func (d *Daemon) Ask(t testing.TB, mapName, key string) string {
	t.Helper()
	reply, err := Ask(t.Context(), d.Addr, mapName, key)
	if err != nil {
		t.Fatalf("asking %s %s: %v; the log:\n%s", mapName, key, err, d.Log.String())
	}
	return reply
}

// Metrics returns what the daemon counts, as Prometheus reads it.
func (d *Daemon) Metrics(t testing.TB) string {
	t.Helper()
	client := http.Client{Timeout: startWithin}
	answer, err := client.Get("http://" + d.http + "/metrics")
	if err != nil {
		t.Fatalf("reading the metrics: %v", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("reading the metrics: %v", err)
	}
	return string(text)
}

// Run runs another command of the program with the daemon's configuration, and
// returns its standard output and exit code.
func (d *Daemon) Run(t testing.TB, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(d.program, append(args, "--config", d.conf)...)
	cmd.Env = d.env
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatalf("running %q: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Stop ends the daemon as systemd does, and returns its exit code.
func (d *Daemon) Stop(t testing.TB) int {
	t.Helper()
	if err := d.proc.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stopping the daemon: %v", err)
	}
	select {
	case <-d.proc.done:
	case <-time.After(stopWithin):
		t.Fatalf("the daemon has not ended %v after SIGTERM; the log:\n%s", stopWithin, d.Log.String())
	}
	return d.proc.cmd.ProcessState.ExitCode()
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill() { d.proc.kill() }

// answers asks for a key that costs no lookup.
func (d *Daemon) answers(ctx context.Context) error {
	reply, err := Ask(ctx, d.Addr, "policy", ".example")
	if err == nil && reply != "NOTFOUND " {
		err = fmt.Errorf("the reply about a parent domain is %q", reply)
	}
	return err
}

// daemonConf is a configuration with what the lab needs: its own authority,
// and policy hosts on loopback.
func (l *Lab) daemonConf(o DaemonOptions) string {
	if o.AnswerWithin == 0 {
		o.AnswerWithin = 3 * time.Second
	}
	if o.Recheck == 0 {
		o.Recheck = time.Minute
	}
	dns := ""
	if o.DNS != "" {
		dns = `"` + o.DNS + `"`
	}
	return strings.NewReplacer(
		"{listen}", o.Listen, "{dns}", dns, "{ca}", l.CAFile(),
		"{http}", o.HTTP, "{within}", o.AnswerWithin.String(), "{recheck}", o.Recheck.String(),
	).Replace(daemonYAML)
}

const daemonYAML = `listen: ["{listen}"]
dns: {servers: [{dns}]}
sts:
  answer_within: {within}
  fetch_timeout: 5s
  ca_file: {ca}
  allow_networks: [127.0.0.0/16]
cache: {recheck: {recheck}}
admin: {http: "{http}"}
log: {level: debug, format: json}
`

// build makes the program once for all labs of this process. With GOCOVERDIR
// set, it counts what the tests run.
func (l *Lab) build() (string, error) {
	l.building.Lock()
	defer l.building.Unlock()
	program := filepath.Join(runDir, "tlspolicyd")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	args := []string{"build", "-race", "-o", program + ".new"}
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=tlspolicyd/...")
	}
	if _, err := run("go", append(args, "tlspolicyd/cmd/tlspolicyd")...); err != nil {
		return "", err
	}
	return program, os.Rename(program+".new", program)
}
