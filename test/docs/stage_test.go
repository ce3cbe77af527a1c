//go:build e2e

package docs_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// startWithin is how long the daemon may take to start.
const startWithin = 20 * time.Second

// names puts domains of the lab in the place of those that the pages speak of.
// All of them enforce a policy, and meet it.
var names = strings.NewReplacer(
	"example.com", "com.example", "example.net", "net.example", "gmail.com", "gmail.test",
	"DOMAIN", "com.example", "--map NAME", "--map policy")

// stage is a relay as an administrator has it: a daemon with its files where the
// pages say that they are, and a Postfix that asks it.
type stage struct {
	lab     *lab.Lab
	dir     string
	env     []string
	postfix *lab.Postfix
}

// newStage publishes the domains, and starts the daemon and Postfix.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{lab: lab.New(t), dir: t.TempDir()}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, domain := range []string{"com.example", "net.example", "gmail.test"} {
		s.publish(t, domain, "mx."+domain)
	}
	s.publish(t, "smtp.net.example", "smtp.net.example")
	s.start(t)
	s.postfix = s.lab.StartPostfix(t, lab.PostfixOptions{Release: lab.System(), Level: "dane",
		Settings: []string{"relay_domains = com.example"}})
	s.env = append(s.env, "MAIL_CONFIG="+s.postfix.Dir())
	return s
}

// publish adds a domain that enforces a policy.
func (s *stage) publish(t *testing.T, domain, mx string) {
	t.Helper()
	s.lab.AddDomain(t, lab.Domain{Name: domain, MX: mx, ID: "1", Policy: lab.Policy{Text: policyOf(mx)}})
}

func policyOf(mx string) string {
	return "version: STSv1\nmode: enforce\nmx: " + mx + "\nmax_age: 604800\n"
}

// start builds the daemon and runs it: with the pages' addresses and its admin
// socket in the usual place, since /run is the lab's own.
func (s *stage) start(t *testing.T) {
	t.Helper()
	program := filepath.Join(s.dir, "tlspolicyd.real")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, root+"/cmd/tlspolicyd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	conf := s.write(t, "tlspolicyd.yaml", fmt.Sprintf(`listen: ["127.0.0.1:8461", "127.0.0.1:8642"]
sts: {ca_file: %q, allow_networks: [127.0.0.0/16]}
cache: {file: %q}
admin: {http: "127.0.0.1:8462"}
`, s.lab.CAFile(), filepath.Join(s.dir, "policies.db")))
	wrapper := s.write(t, "tlspolicyd", fmt.Sprintf("#!/bin/sh\nexec %s --config %s \"$@\"\n", program, conf))
	if err := os.Chmod(wrapper, 0o755); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"PATH=" + s.dir + ":/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "SSL_CERT_FILE=" + s.lab.CAFile()}
	var said lab.Log
	cmd := exec.Command(wrapper, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stopping the daemon: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon: %v; it said:\n%s", err, said.String())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	if _, err := said.Wait(ctx, 0, "answering the operator"); err != nil {
		t.Fatalf("the daemon does not start: %v; it said:\n%s", err, said.String())
	}
	if err := s.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ask makes the daemon know the domains.
func (s *stage) ask(ctx context.Context) error {
	for _, domain := range []string{"com.example", "net.example", "gmail.test"} {
		reply, err := lab.Ask(ctx, net.JoinHostPort("127.0.0.1", "8461"), "policy", domain)
		if err == nil && !strings.HasPrefix(reply, "OK secure ") {
			err = fmt.Errorf("%s: the answer is %q", domain, reply)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write writes a file of the stage's own directory and returns its path.
func (s *stage) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a command line in the stage's directory.
func (s *stage) run(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}
