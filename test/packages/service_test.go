//go:build e2e

package packages_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// Where the installed daemon is asked.
const (
	tcp      = "127.0.0.1:8461"
	unixPath = "/var/spool/postfix/tlspolicyd/policy.sock"
	conf     = "/etc/tlspolicyd/tlspolicyd.yaml"
	// labConf lets the daemon fetch policies in the lab.
	labConf = "sts: {allow_networks: [127.0.0.0/16]}\n"
)

// The versions that are installed.
const first, second = "1.0.0", "1.1.0"

// enforced is a domain of the lab with a policy, and what is answered for it.
const (
	enforced = "relay-upgrade.test"
	secure   = "OK secure match=mx.relay-upgrade.test servername=hostname"
)

// install starts a box in which the package is installed, and which believes the
// lab's authority as one of the system's.
func install(t *testing.T, s system) *box {
	t.Helper()
	b, _, _ := installIn(t, s)
	return b
}

// installIn is install, with the lab around the box and the host that takes mail
// for the domain.
func installIn(t *testing.T, s system) (*box, *lab.Lab, *lab.MailHost) {
	t.Helper()
	b, l, host := prepare(t, s)
	b.do(t, "dpkg", "--force-confold", "-i", deb(t, first))
	return b, l, host
}

// prepare starts a box in which all is ready for the package.
func prepare(t *testing.T, s system) (*box, *lab.Lab, *lab.MailHost) {
	t.Helper()
	l := lab.New(t)
	host := l.AddDomain(t, lab.Domain{Name: enforced, ID: "1", Policy: lab.Policy{
		Text: "version: STSv1\nmode: enforce\nmx: mx." + enforced + "\nmax_age: 86400\n",
	}})
	b := startBox(t, s)
	b.write(t, "/etc/ssl/certs/ca-certificates.crt", read(t, l.CAFile()))
	b.write(t, conf, labConf)
	return b, l, host
}

// expect wants a reply from the daemon of the box.
func expect(t *testing.T, b *box, addr, key, want string) {
	t.Helper()
	c := &client{addr: addr}
	defer c.close()
	got, err := c.ask(t.Context(), key)
	if err != nil || got != want {
		t.Fatalf("the reply about %s is %q, %v, want %q; the journal:\n%s", key, got, err, want, b.journal())
	}
}

// TestRestartUnderLoad exchanges the daemon while it is asked over both sockets:
// no question may be refused, lost or answered otherwise.
func TestRestartUnderLoad(t *testing.T) { onBoth(t, restartUnderLoad) }

func restartUnderLoad(t *testing.T, s system) {
	b := install(t, s)
	expect(t, b, tcp, enforced, secure)
	openInChroot(t, b)

	const restarts, clients = 20, 4
	upgrade := deb(t, second)
	loads := []*load{
		{addr: tcp, key: enforced, want: secure},
		{addr: "unix:" + filepath.Join(b.root, unixPath), key: enforced, want: secure},
	}
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for _, l := range loads {
		for range clients {
			asking.Go(func() { l.run(ctx, t) })
		}
	}
	pids := map[string]bool{b.property(t, "MainPID"): true}
	for range restarts {
		b.do(t, "systemctl", "restart", "tlspolicyd.service")
		pids[b.property(t, "MainPID")] = true
	}
	b.do(t, "dpkg", "-i", upgrade)
	pids[b.property(t, "MainPID")] = true
	if got := b.do(t, "tlspolicyd", "version"); !strings.HasPrefix(got, "tlspolicyd 1.1.0 ") {
		t.Errorf("after the upgrade: %s", got)
	}
	stop()
	asking.Wait()
	if len(pids) != restarts+2 {
		t.Errorf("%d daemons have run, want %d", len(pids), restarts+2)
	}
	for _, l := range loads {
		t.Logf("%s: %d lookups over %d connections, %d restarts and an upgrade", l.addr, l.asked.Load(), l.opened.Load(), restarts)
		if l.opened.Load() < clients+restarts {
			t.Errorf("%s: %d connections: the load has not seen the restarts", l.addr, l.opened.Load())
		}
	}
}

// TestReload reads the configuration again while a connection is open.
func TestReload(t *testing.T) { onBoth(t, reload) }

func reload(t *testing.T, s system) {
	b := install(t, s)
	c := &client{addr: tcp}
	defer c.close()
	ask := func() {
		t.Helper()
		if got, err := c.ask(t.Context(), enforced); err != nil || got != secure {
			t.Fatalf("the reply is %q, %v; the journal:\n%s", got, err, b.journal())
		}
	}
	reload := func(text, status string) {
		t.Helper()
		b.write(t, conf, text)
		b.do(t, "systemctl", "reload", "tlspolicyd.service")
		until(t, 5*time.Second, func() error {
			if got := b.property(t, "StatusText"); !strings.HasPrefix(got, status) {
				return fmt.Errorf("the status is %q", got)
			}
			if got := b.property(t, "ActiveState"); got != "active" {
				return fmt.Errorf("the service is %s", got)
			}
			return nil
		})
		ask()
	}
	ask()
	b.do(t, "rm", "-f", "/usr/bin/kill") // of another package, which need not be there
	pid := b.property(t, "MainPID")
	const works, failed = "Answering on ", "Reload failed, what was in effect stays: "
	reload("listen: nonsense\n", failed)
	reload(labConf+"log: {level: debug}\nsmart_hosts: false\ncache: {memory: 10}\n", works)
	journal := b.journal()
	for _, want := range []string{
		"<3>", // taken off by the journal
		`these keys have changed and take effect at the next restart	{"keys": ["smart_hosts", "cache.memory"]}`,
		"answered\t",
	} {
		if got := strings.Contains(journal, want); got != (want != "<3>") {
			t.Errorf("%q in the journal: %v:\n%s", want, got, journal)
		}
	}
	if b.property(t, "MainPID") != pid || c.opened != 1 {
		t.Errorf("the daemon was %s and is %s, after %d connections", pid, b.property(t, "MainPID"), c.opened)
	}
	errors := b.do(t, "journalctl", "--quiet", "--no-pager", "--output=cat", "--priority=err", "--unit=tlspolicyd.service")
	if !strings.Contains(errors, "the configuration cannot be used") || strings.Contains(errors, "answered") {
		t.Errorf("errors in the journal:\n%s", errors)
	}
}

// TestWatchdog stops the daemon as a deadlock would, and wants systemd to
// replace it.
func TestWatchdog(t *testing.T) { onBoth(t, watchdog) }

func watchdog(t *testing.T, s system) {
	b := install(t, s)
	b.write(t, "/etc/systemd/system/tlspolicyd.service.d/watchdog.conf", "[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\n")
	b.do(t, "systemctl", "daemon-reload")
	b.do(t, "systemctl", "restart", "tlspolicyd.service")
	time.Sleep(3 * time.Second) // it is fed in time
	pid := b.property(t, "MainPID")
	if n := b.property(t, "NRestarts"); n != "0" {
		t.Fatalf("restarted %s times while all was well; the journal:\n%s", n, b.journal())
	}
	b.do(t, "sh", "-c", "kill -STOP "+pid)
	expect(t, b, tcp, enforced, secure)
	if b.property(t, "MainPID") == pid {
		t.Errorf("process %s answers though it was stopped", pid)
	}
}

// TestConfinement looks at what the running daemon may do.
func TestConfinement(t *testing.T) { onBoth(t, confinement) }

func confinement(t *testing.T, s system) {
	b := install(t, s)
	expect(t, b, tcp, enforced, secure) // with the roots of the system, and its state
	status, err := os.ReadFile(filepath.Join(b.root, "proc", b.property(t, "MainPID"), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(string(status), want+"\n") {
			t.Errorf("its status lacks %q:\n%s", want, status)
		}
	}
	owner := strings.TrimSpace(b.do(t, "stat", "--format=%U:%G %a", "/var/lib/tlspolicyd"))
	if owner != "tlspolicyd:tlspolicyd 700" {
		t.Errorf("the state directory is %s", owner)
	}
	// A broken configuration is an end with a reason, and no end of trying.
	b.write(t, conf, "listen: nonsense\n")
	if out, err := b.try("timeout", "20", "systemctl", "restart", "tlspolicyd.service"); err == nil {
		t.Errorf("it starts with a broken configuration: %s", out)
	}
	errors := b.do(t, "journalctl", "--quiet", "--no-pager", "--output=cat", "--priority=err", "--unit=tlspolicyd.service")
	if !strings.Contains(errors, "tlspolicyd.yaml:1:9") {
		t.Errorf("the errors in the journal do not say where the fault is:\n%s\nall of it:\n%s", errors, b.journal())
	}
	b.write(t, conf, labConf)
	expect(t, b, tcp, enforced, secure)
}

// TestMetricsOfUnit looks at what metrics.md says of the metrics of the process.
func TestMetricsOfUnit(t *testing.T) {
	b := install(t, this)
	b.write(t, conf, labConf+"admin: {http: 127.0.0.1:8462}\n")
	b.do(t, "systemctl", "restart", "tlspolicyd.service")
	var text string
	until(t, 10*time.Second, func() error {
		got, err := http.Get("http://127.0.0.1:8462/metrics")
		if err != nil {
			return err
		}
		defer got.Body.Close()
		all, err := io.ReadAll(got.Body)
		text = string(all)
		return err
	})
	for name, want := range map[string]bool{
		"process_cpu_seconds_total": true, "process_resident_memory_bytes": true,
		"process_open_fds": true, "process_start_time_seconds": false,
	} {
		if got := strings.Contains(text, "\n"+name+" "); got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
	if !strings.Contains(read(t, "../../docs/metrics.md"), "but for `process_start_time_seconds`") {
		t.Error("metrics.md does not say what is missing")
	}
}

// TestWithoutSockets takes the sockets from systemd, and gives them back, as
// install.md has it: the daemon listens where its configuration says, and says so
// when it does not.
func TestWithoutSockets(t *testing.T) {
	const unused = "are not used, since systemd hands over other sockets"
	b := install(t, this)
	openInChroot(t, b)
	b.write(t, conf, labConf+`listen: ["127.0.0.1:8463", "unix:/run/tlspolicyd/policy.sock"]`+"\n")
	b.do(t, "systemctl", "restart", "tlspolicyd.service")
	expect(t, b, tcp, enforced, secure)
	if said := b.journal(); strings.Count(said, unused) != 1 {
		t.Errorf("nothing is said of addresses that are not used:\n%s", said)
	}
	table := section(t, "docs/install.md", "## Other sockets")
	for _, row := range []string{"| no socket of systemd |", "| the sockets of systemd again |"} {
		_, text, found := strings.Cut(table, row)
		text, _, _ = strings.Cut(text, "\n")
		if _, ran := b.walk(t, text, "row"); !found || ran != 1 {
			t.Fatalf("%d commands: %s %s", ran, row, text)
		}
		if row == "| no socket of systemd |" {
			expect(t, b, "127.0.0.1:8463", enforced, secure)
			expect(t, b, "unix:"+filepath.Join(b.root, "run/tlspolicyd/policy.sock"), enforced, secure)
			continue
		}
		expect(t, b, tcp, enforced, secure)
	}
	if said := b.journal(); strings.Count(said, unused) != 2 {
		t.Errorf("how often addresses are not used is not in the log:\n%s", said)
	}
}

// TestActivated starts the command of the unit with sockets of
// systemd-socket-activate.
func TestActivated(t *testing.T) {
	dir := t.TempDir()
	run(t, "dpkg", "-x", deb(t, first), dir)
	unit, err := os.ReadFile(filepath.Join(dir, "usr/lib/systemd/system/tlspolicyd.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(unit), "\nExecStart=")
	command, _, _ := strings.Cut(rest, "\n")
	args := strings.Fields(command)
	args[0] = filepath.Join(dir, args[0])
	socket := filepath.Join(dir, "sock")
	out := &lab.Log{}
	pid := background(t, out, append([]string{"systemd-socket-activate", "--listen=" + tcp, "--listen=[::1]:8461",
		"--listen=" + socket, "--fdname=one:two:three", "--setenv=STATE_DIRECTORY=" + dir}, args...)...)
	for _, addr := range []string{tcp, "[::1]:8461", "unix:" + socket} {
		var got string
		until(t, 10*time.Second, func() (err error) {
			c := &client{addr: addr}
			defer c.close()
			got, err = c.ask(t.Context(), ".example")
			return err
		})
		if got != "NOTFOUND " {
			t.Errorf("the reply of %s is %q", addr, got)
		}
	}
	for i, name := range []string{"one", "two", "three"} {
		if len(out.About(`"using a socket from systemd","name":`+strconv.Quote(name))) != 1 {
			t.Errorf("socket %d is not in the log by its name:\n%s", i, out.String())
		}
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}
