//go:build e2e

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcomeWithin is how long one attempt to deliver a mail may take.
const outcomeWithin = 40 * time.Second

// PostfixOptions say which Postfix, and what its administrator has set.
type PostfixOptions struct {
	// Release is System or Next.
	Release Release
	// Level is smtp_tls_security_level; empty means may.
	Level string
	// Map is the name of the map that is asked at PolicyMap; empty means
	// policy.
	Map string
	// Settings are lines of main.cf, after all others.
	Settings []string
	// Ways are other ways out of the same relay.
	Ways []Way
}

// Postfix is a relay: it takes mail from the test and delivers it as its TLS
// policy map says.
type Postfix struct {
	// Log is its mail log.
	Log *Log
	// Version is as Postfix says it, 3.7.11.
	Version string

	release Release
	conf    string
	addr    string // of its SMTP server
}

// Delivery is what one attempt to deliver a mail came to.
type Delivery struct {
	// ID is the queue id.
	ID string
	// Status is sent, deferred or bounced.
	Status string
	// Line is the line of the log that says so.
	Line string
}

// StartPostfix starts a relay with configuration, queue and log of its own.
func (l *Lab) StartPostfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	n := l.relays.Add(1)
	dir := l.subdir(t, fmt.Sprintf("postfix%d", n))
	p := &Postfix{
		release: o.Release,
		conf:    filepath.Join(dir, "etc"),
		addr:    fmt.Sprintf("127.0.0.1:%d", 2500+n),
	}
	if err := p.configure(dir, l.CAFile(), o); err != nil {
		t.Fatalf("configuring Postfix: %v", err)
	}
	if err := p.start(t); err != nil {
		t.Fatalf("starting Postfix: %v", err)
	}
	return p
}

// Dir is the directory of its main.cf and master.cf.
func (p *Postfix) Dir() string { return p.conf }

// Send hands a mail over and waits for the first attempt to deliver it.
func (p *Postfix) Send(t testing.TB, to string) Delivery {
	t.Helper()
	from := p.Log.Len()
	return p.outcome(t, p.Submit(t, to), from)
}

// Submit hands a mail over, and returns its queue id.
func (p *Postfix) Submit(t testing.TB, to string) string {
	t.Helper()
	id, err := p.submit(to)
	if err != nil {
		t.Fatalf("handing over a mail to %s: %v", to, err)
	}
	return id
}

// Outcome waits for the first attempt to deliver a mail that was handed over.
func (p *Postfix) Outcome(t testing.TB, id string) Delivery {
	t.Helper()
	return p.outcome(t, id, 0)
}

// Retry makes Postfix try a deferred mail again, and waits for the outcome.
func (p *Postfix) Retry(t testing.TB, d Delivery) Delivery {
	t.Helper()
	from := p.Log.Len()
	if out, err := p.command("postqueue", "-c", p.conf, "-i", d.ID).CombinedOutput(); err != nil {
		t.Fatalf("retrying %s: %v: %s", d.ID, err, out)
	}
	return p.outcome(t, d.ID, from)
}

func (p *Postfix) outcome(t testing.TB, id string, from int) Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), outcomeWithin)
	defer cancel()
	line, err := p.Log.Wait(ctx, from, " "+id+": to=", " status=")
	if err != nil {
		t.Fatalf("no attempt to deliver %s: %v; the log:\n%s", id, err, p.Log.String())
	}
	_, rest, _ := strings.Cut(line, " status=")
	status, _, _ := strings.Cut(rest, " ")
	return Delivery{ID: id, Status: status, Line: line}
}

// submit speaks SMTP to the relay, and returns the queue id. The sender is
// empty, so that a bounce goes nowhere.
func (p *Postfix) submit(to string) (string, error) {
	conn, err := net.DialTimeout("tcp", p.addr, startWithin)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startWithin)); err != nil {
		return "", err
	}
	c := textproto.NewConn(conn)
	var reply string
	for _, step := range []struct {
		say  string
		want int
	}{
		{"", 220},
		{"EHLO client.example", 250},
		{"MAIL FROM:<>", 250},
		{"RCPT TO:<" + to + ">", 250},
		{"DATA", 354},
		{"Subject: lab\r\n\r\nsecret of " + to + "\r\n.", 250},
	} {
		if step.say != "" {
			if err := c.PrintfLine("%s", step.say); err != nil {
				return "", err
			}
		}
		if _, reply, err = c.ReadResponse(step.want); err != nil {
			return "", fmt.Errorf("after %q: %w", step.say, err)
		}
	}
	_, id, ok := strings.Cut(reply, "queued as ")
	if !ok {
		return "", fmt.Errorf("no queue id in %q", reply)
	}
	return strings.TrimSpace(id), nil
}

// start runs Postfix in the foreground, so that it logs to the lab.
func (p *Postfix) start(t testing.TB) error {
	out, err := p.command("postconf", "-c", p.conf, "-h", "mail_version").Output()
	if err != nil {
		return err
	}
	p.Version = strings.TrimSpace(string(out))
	// With process ids of its own, all of Postfix ends with its master.
	cmd := p.command("postfix", "-c", p.conf, "start-fg")
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	proc, err := start(t, cmd)
	if err != nil {
		return err
	}
	p.Log = &proc.out
	return proc.until(func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", p.addr)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// command prepares a program of the relay's release.
func (p *Postfix) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/usr/sbin/"+name, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.release.root}
	return cmd
}

// configure writes main.cf and master.cf, and makes the directories.
func (p *Postfix) configure(dir, caFile string, o PostfixOptions) error {
	if o.Level == "" {
		o.Level = "may"
	}
	if o.Map == "" {
		o.Map = "policy"
	}
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		return err
	}
	text := strings.NewReplacer("{dir}", dir, "{ca}", caFile, "{level}", o.Level,
		"{map}", o.Map, "{listen}", PolicyMap, "{port}", port)
	main := text.Replace(mainCF) + strings.Join(o.Settings, "\n") + "\n"
	master := text.Replace(masterCF)
	if len(o.Ways) > 0 {
		main += "transport_maps = regexp:" + p.conf + "/ways\n"
	}
	ways := ""
	for _, w := range o.Ways {
		master += w.service()
		ways += w.transport()
	}
	return errors.Join(
		os.Mkdir(p.conf, 0o755),
		os.Mkdir(filepath.Join(dir, "queue"), 0o755),
		os.WriteFile(filepath.Join(p.conf, "main.cf"), []byte(main), 0o644),
		os.WriteFile(filepath.Join(p.conf, "master.cf"), []byte(master), 0o644),
		os.WriteFile(filepath.Join(p.conf, "ways"), []byte(ways), 0o644),
	)
}

// mainCF is a relay that takes mail from this machine for everybody.
const mainCF = `compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = /dev/stdout
myhostname = relay.example
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_host_lookup = dns
smtp_dns_support_level = dnssec
smtp_tls_security_level = {level}
smtp_tls_policy_maps = socketmap:inet:{listen}:{map}
smtp_tls_CAfile = {ca}
smtp_tls_loglevel = 1
`

// masterCF has what a relay needs, none of it in a chroot.
const masterCF = `127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`
