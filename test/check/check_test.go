//go:build e2e

// Package check_test compares what the command check says of mail hosts with
// what Postfix does to them.
package check_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	exact    = "version: STSv1\nmode: enforce\nmx: mx.{d}\nmax_age: 86400\n"
	wildcard = "version: STSv1\nmode: enforce\nmx: *.{d}\nmax_age: 86400\n"
)

// scene is a domain and its mail host.
type scene struct {
	name   string
	policy string
	host   lab.HostKind
	// cert makes another certificate for the host, by the name of the domain.
	cert func(t *testing.T, l *lab.Lab, domain string) *lab.MailHost
	tlsa lab.TLSAKind
	// forged puts the host outside of the policy.
	forged bool
	// signed puts the domain into a signed zone; then only the relay that does
	// DANE is of interest.
	signed bool
	// system and next say whether the older and the newer Postfix deliver.
	system, next bool
}

func scenes() []scene {
	return []scene{
		{name: "right", policy: exact, system: true, next: true},
		{name: "stripped", policy: exact, host: lab.Stripped},
		{name: "other name", policy: exact, host: lab.OtherName},
		{name: "unsigned", policy: exact, host: lab.Unsigned},
		{name: "expired", policy: exact, host: lab.Expired},
		{name: "sibling", policy: exact, host: lab.Sibling},
		{name: "sibling under a wildcard", policy: wildcard, host: lab.Sibling, system: true},
		{name: "wildcard", policy: exact, host: lab.Wildcard, system: true, next: true},
		{name: "wildcard under a wildcard", policy: wildcard, host: lab.Wildcard, system: true, next: true},
		{name: "common name", policy: exact, system: true, next: true, cert: func(t *testing.T, l *lab.Lab, domain string) *lab.MailHost {
			return l.StartMailHost(t, l.CA.CommonName(t, "mx."+domain))
		}},
		{name: "outside", policy: exact, forged: true},
		{name: "outside with a certificate of the policy", policy: exact, forged: true, system: true, cert: func(t *testing.T, l *lab.Lab, domain string) *lab.MailHost {
			return l.StartMailHost(t, l.CA.Certificate(t, "mx."+domain))
		}},
		{name: "nothing, unsigned", host: lab.Unsigned, system: true, next: true},
		{name: "nothing, stripped", host: lab.Stripped, system: true, next: true},
		{name: "DANE", signed: true, host: lab.Unsigned, tlsa: lab.GoodTLSA, next: true},
		{name: "DANE and expired", signed: true, host: lab.Expired, tlsa: lab.GoodTLSA, next: true},
		{name: "DANE of another key", signed: true, tlsa: lab.WrongTLSA},
		{name: "DANE and stripped", signed: true, host: lab.Stripped, tlsa: lab.WrongTLSA},
		{name: "DANE before the policy", signed: true, policy: exact, host: lab.OtherName, tlsa: lab.GoodTLSA, next: true},
		{name: "DANE of another key before the policy", signed: true, policy: exact, tlsa: lab.WrongTLSA},
	}
}

// found is the part of the JSON object that is compared.
type found struct {
	Outcome string `json:"outcome"`
	Summary string `json:"summary"`
	Hosts   []struct {
		SMTP struct {
			Delivers bool   `json:"delivers"`
			Unknown  bool   `json:"unknown"`
			Error    string `json:"error"`
			Refused  string `json:"refused"`
			Note     string `json:"note"`
		} `json:"smtp"`
	} `json:"mail_hosts"`

	code int // with which the command exits
}

// loose is what check says of a host to which only the rules of match= lead.
func (f *found) loose() bool {
	return strings.HasPrefix(f.Hosts[0].SMTP.Note, "only Postfix before 3.10.5")
}

func TestCheckSaysWhatPostfixDoes(t *testing.T) {
	l := lab.New(t)
	l.StartDaemon(t, lab.DaemonOptions{})
	ask := newCommand(t, l)
	system := l.StartPostfix(t, lab.PostfixOptions{Release: lab.System(), Level: "may", Map: "policy"})
	next := l.StartPostfix(t, lab.PostfixOptions{Release: lab.Next(), Level: "dane", Map: "policy-tlsrpt"})
	for i, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			domain := publish(t, l, s, fmt.Sprintf("check%d", i))
			said := ask(t, domain)
			p := said.Hosts[0].SMTP
			if p.Delivers != (s.system || s.next) || said.loose() != (s.system && !s.next) {
				t.Errorf("check says %+v", said)
			}
			sends := func(relay *lab.Postfix, want bool) {
				t.Helper()
				if d := relay.Send(t, "user@"+domain); (d.Status == "sent") != want {
					t.Errorf("Postfix %s: %s; want it to deliver: %v; check says %+v", relay.Version, d.Line, want, said)
				}
			}
			sends(next, s.next)
			if !s.signed {
				sends(system, s.system)
			}
		})
	}
}

// publish makes the domain of a scene.
func publish(t *testing.T, l *lab.Lab, s scene, label string) string {
	t.Helper()
	domain := label + ".test"
	if s.signed {
		domain = label + ".example"
	}
	d := lab.Domain{Name: domain, Host: s.host, TLSA: s.tlsa, MX: "mx." + domain}
	if s.forged {
		d.MX = "mx.other-" + domain
	}
	if s.policy != "" {
		d.ID, d.Policy.Text = "1", strings.ReplaceAll(s.policy, "{d}", domain)
	}
	l.AddDomain(t, d)
	if s.cert != nil {
		l.Zones.Set(t, d.MX+". 60 A "+s.cert(t, l, domain).Addr)
	}
	return domain
}

// newCommand builds the program, and returns what asks it.
func newCommand(t *testing.T, l *lab.Lab) func(t *testing.T, domain string) *found {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "tlspolicyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "tlspolicyd/cmd/tlspolicyd").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v: %s", err, out)
	}
	conf := filepath.Join(dir, "tlspolicyd.yaml")
	text := fmt.Sprintf("sts: {ca_file: %q, allow_networks: [127.0.0.0/16]}\nadmin: {socket: %q}\n", l.CAFile(), filepath.Join(dir, "none"))
	postconf := fmt.Sprintf("#!/bin/sh\necho smtp_tls_CAfile = %s\n", l.CAFile())
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "postconf"), []byte(postconf), 0o700)); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, domain string) *found {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, "check", "--smtp", "--json", "--config", conf, domain)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.Output()
		exit := new(exec.ExitError)
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		f := &found{code: cmd.ProcessState.ExitCode()}
		if err := json.Unmarshal(out, f); err != nil || len(f.Hosts) != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		return f
	}
}
