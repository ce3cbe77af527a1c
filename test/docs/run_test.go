//go:build e2e

package docs_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

// TestRun runs what the pages say, on a relay in the lab.
func TestRun(t *testing.T) {
	s := newStage(t)
	// What a page has checked before it is published.
	s.write(t, "mta-sts.txt", policyOf("mx.com.example"))
	all := pages(t)
	s.writeTables(t, all)
	ran := 0
	for _, p := range all {
		for _, b := range p.blocks {
			ran += s.try(t, b)
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands were run", ran)
	}
}

// try tries a block, and returns how many commands of it were run.
func (s *stage) try(t *testing.T, b block) int {
	t.Helper()
	ran := 0
	switch b.kind() {
	case shell:
		for _, line := range b.commands() {
			ran += s.command(t, b, line)
		}
	case mainCF:
		t.Run(fmt.Sprintf("%s:%d", b.page, b.line), func(t *testing.T) {
			t.Parallel()
			s.mainCF(t, b)
		})
	case unbound:
		s.tool(t, b, "unbound.conf", "unbound-checkconf unbound.conf")
	case yaml:
		if strings.Contains(b.text, "scrape_configs:") {
			s.tool(t, b, "prometheus.yml", "promtool check config prometheus.yml")
		}
	case unit:
		b.leftOut(t, "a unit", "there is no systemd in the lab")
	case text:
		b.leftOut(t, "a block", string(text))
	}
	return ran
}

// tool writes a block to a file and has a program judge it.
func (s *stage) tool(t *testing.T, b block, file, line string) {
	t.Helper()
	s.write(t, file, b.text)
	if out, err := s.run(t.Context(), line); err != nil {
		t.Errorf("%s:%d: %s: %v\n%s", b.page, b.line, line, err, out)
	}
}

// runnable are the programs that change nothing outside of the stage.
var runnable = map[string]bool{"tlspolicyd": true, "bin/tlspolicyd": true, "postconf": true, "postqueue": true,
	"curl": true, "dig": true, "grep": true, "head": true, "unbound-checkconf": true}

// elsewhere says why a program is not run.
var elsewhere = map[string]string{
	"apt": "packages are installed by test/packages", "dnf": "packages are installed by test/packages",
	"systemctl": "there is no systemd in the lab", "journalctl": "there is no systemd in the lab",
	"postfix": "it would act on a Postfix that is being tested", "postmap": "tables are made when main.cf is tried",
}

// command runs a command line and returns how many were run.
func (s *stage) command(t *testing.T, b block, line string) int {
	t.Helper()
	name, _, _ := strings.Cut(line, " ")
	switch {
	case name == "make":
		s.target(t, b, line)
		return 1
	case line == "bin/tlspolicyd serve" || line == "tlspolicyd serve":
		b.leftOut(t, line, "it is running already")
		return 0
	case elsewhere[name] != "":
		b.leftOut(t, line, elsewhere[name])
		return 0
	}
	for _, part := range strings.Split(line, " | ") {
		program, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		if !runnable[program] || strings.ContainsAny(part, "><;&") {
			b.leftOut(t, line, "it might change something outside of the lab")
			return 0
		}
	}
	line = names.Replace(strings.TrimPrefix(line, "bin/"))
	if err := s.ask(t.Context()); err != nil {
		t.Errorf("%s:%d: before %s: %v", b.page, b.line, line, err)
	}
	if out, err := s.run(t.Context(), line); err != nil {
		t.Errorf("%s:%d: %s: %v\n%s", b.page, b.line, line, err, out)
	}
	return 1
}

// target makes sure that make knows what it is asked for.
func (s *stage) target(t *testing.T, b block, line string) {
	t.Helper()
	args := append([]string{"-n", "-C", root}, strings.Fields(line)[1:]...)
	if out, err := exec.CommandContext(t.Context(), "make", args...).CombinedOutput(); err != nil {
		t.Errorf("%s:%d: %s: %v\n%s", b.page, b.line, line, err, out)
	}
}

// writeTables makes the tables of Postfix of all pages, so that main.cf finds
// them.
func (s *stage) writeTables(t *testing.T, all []page) {
	t.Helper()
	for _, p := range all {
		for _, b := range p.blocks {
			if b.kind() != table {
				continue
			}
			name := filepath.Base(tablePath.FindStringSubmatch(b.text)[1])
			s.write(t, name, b.text)
			if out, err := s.run(t.Context(), "postmap hash:./"+name); err != nil || strings.Contains(out, "warning") {
				t.Errorf("%s:%d: postmap: %v\n%s", b.page, b.line, err, out)
			}
		}
	}
}

// policyMap finds the address and the name of a socketmap in main.cf.
var policyMap = regexp.MustCompile(`socketmap:(\S+):(\S+)`)

// mainCF starts a Postfix with the settings of a block, and sends a mail to a
// domain that enforces a policy: it must arrive, and over verified TLS.
func (s *stage) mainCF(t *testing.T, b block) {
	t.Helper()
	const domain = "com.example"
	settings := strings.NewReplacer("/etc/ssl/certs/ca-certificates.crt", s.lab.CAFile(), "/etc/postfix/", s.dir+"/").Replace(b.text)
	o := lab.PostfixOptions{Release: lab.System(), Level: "dane", Settings: []string{settings}}
	if strings.Contains(b.text, "-tlsrpt") || strings.Contains(b.text, "TLSRPT") {
		o.Release = lab.Next()
	}
	relay := s.lab.StartPostfix(t, o)
	out, err := s.run(t.Context(), "postconf -c "+relay.Dir()+" -n >/dev/null")
	if err != nil || strings.Contains(out, "unused parameter") || strings.Contains(out, "fatal") {
		t.Errorf("%s:%d: postconf: %v\n%s", b.page, b.line, err, out)
	}
	for _, m := range policyMap.FindAllStringSubmatch(b.text, -1) {
		if !strings.HasPrefix(m[1], "inet:127.0.0.1:") {
			b.leftOut(t, "a mail through "+m[0], "nobody listens there in the lab")
			return
		}
	}
	d := relay.Send(t, "user@"+domain)
	verified := relay.Log.About("Verified TLS connection established to mx." + domain)
	if d.Status != "sent" || len(verified) == 0 {
		t.Errorf("%s:%d: a mail is not delivered over verified TLS:\n%s", b.page, b.line, relay.Log.String())
	}
}
