//go:build e2e

package demo_test

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// noticedWithin is how long the daemon may take to see what an attacker did.
const noticedWithin = 20 * time.Second

// attackerMX is the name of a mail host of the attacker's own.
const attackerMX = "mx.attacker.test"

// fate is what becomes of a mail, in words.
type fate string

// The fates of a mail.
const (
	checked   fate = "delivered over verified TLS"
	unchecked fate = "delivered over TLS that nobody verified"
	encrypted fate = "DELIVERED TO THE ATTACKER, over TLS"
	inClear   fate = "DELIVERED TO THE ATTACKER, in clear"
	deferred  fate = "deferred; nobody has it"
	// Never wanted.
	leaked fate = "deferred; the attacker has heard the addresses in clear"
	lost   fate = "neither deferred nor delivered"
)

// stolen says that the attacker has the mail.
func (f fate) stolen() bool { return f == inClear || f == encrypted }

// result is a row, and what happened.
type result struct {
	row           row
	without, with fate
	// policy is what tlspolicyd answered, line what Postfix logged with it.
	policy, line string
}

// stage is the lab with both relays. Rows are played one after the other.
type stage struct {
	t             *testing.T // of the whole demonstration
	lab           *lab.Lab
	daemon        *lab.Daemon
	options       lab.DaemonOptions
	without, with *lab.Postfix
}

// newStage starts two relays that differ in one line of main.cf.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, lab: lab.New(t), options: lab.DaemonOptions{Recheck: time.Second}}
	s.daemon = s.lab.StartDaemon(t, s.options)
	s.with = s.lab.StartPostfix(t, lab.PostfixOptions{Release: lab.System(), Level: "dane"})
	s.without = s.lab.StartPostfix(t, lab.PostfixOptions{Release: lab.System(), Level: "dane",
		Settings: []string{"smtp_tls_policy_maps ="}})
	return s
}

// play publishes what a row says, lets the attacker do his work, and sends a
// mail through either relay.
func (s *stage) play(t *testing.T, r row) result {
	t.Helper()
	honest := s.publish(t, r)
	if !r.unknown {
		for _, relay := range []*lab.Postfix{s.without, s.with} {
			if d := relay.Send(t, "before@"+r.domain); mailOf(honest.Sessions(), d) == nil {
				t.Fatalf("before the attack: %s", d.Line)
			}
		}
	}
	attacker := s.attacker(t, r)
	if r.strike != nil {
		r.strike(t, s, r.domain, attacker)
	}
	out := result{row: r}
	out.without, _ = s.send(t, s.without, r.domain, honest, attacker)
	asked := s.daemon.Log.Len()
	out.with, out.line = s.send(t, s.with, r.domain, honest, attacker)
	s.answered(t, asked, r.domain)
	out.policy = strings.TrimSpace(strings.TrimPrefix(s.daemon.Ask(t, "policy", r.domain), "OK "))
	out.check(t)
	return out
}

// check compares what happened with what should have.
func (o result) check(t *testing.T) {
	t.Helper()
	r := o.row
	if o.without != r.without {
		t.Errorf("without tlspolicyd: %s; want: %s", o.without, r.without)
	}
	if o.with != r.with {
		t.Errorf("with tlspolicyd: %s; want: %s", o.with, r.with)
	}
	if want := strings.ReplaceAll(r.policy, "{domain}", r.domain); o.policy != want {
		t.Errorf("the policy is %q, want %q", o.policy, want)
	}
	if !strings.Contains(o.line, r.logged) {
		t.Errorf("Postfix logs %q, want %q in it", o.line, r.logged)
	}
}

// publish adds the domain with its mail host, and returns that. Records that an
// attacker changes are looked at again after a second.
func (s *stage) publish(t *testing.T, r row) *lab.MailHost {
	t.Helper()
	d := lab.Domain{Name: r.domain, TLSA: r.tlsa}
	if r.mode != "" {
		d.ID = "1"
		d.Policy.Text = fmt.Sprintf("version: STSv1\nmode: %s\nmx: mx.%s\nmax_age: 604800\n", r.mode, r.domain)
	}
	host := s.lab.AddDomain(s.t, d)
	if r.mode != "" {
		s.lab.Zones.Set(t, "_mta-sts."+r.domain+`. 1 TXT "v=STSv1; id=1"`)
	}
	return host
}

// attacker starts the attacker's mail host.
func (s *stage) attacker(t *testing.T, r row) *lab.MailHost {
	t.Helper()
	switch r.host {
	case lab.Right:
		return s.lab.StartMailHost(s.t, s.lab.CA.Certificate(t, "mx."+r.domain))
	case lab.OtherName:
		return s.lab.StartMailHost(s.t, s.lab.CA.Certificate(t, attackerMX))
	case lab.Stripped:
		return s.lab.StartMailHost(s.t, nil)
	default:
		t.Fatalf("no attacker has a host of kind %d", r.host)
		return nil
	}
}

// send sends a mail, and returns who has it and what Postfix logs about it.
func (s *stage) send(t *testing.T, relay *lab.Postfix, domain string, honest, attacker *lab.MailHost) (fate, string) {
	t.Helper()
	lines, sessions := relay.Log.Len(), len(attacker.Sessions())
	d := relay.Send(t, "user@"+domain)
	seen := attacker.Sessions()[sessions:]
	about := strings.Split(relay.Log.String(), "\n")[lines:]
	switch mail := mailOf(seen, d); {
	case mailOf(honest.Sessions(), d) != nil:
		if line := find(about, "Verified TLS connection established to mx."+domain); line != "" {
			return checked, line
		}
		return unchecked, reason(d.Line)
	case mail != nil && mail.TLS:
		return encrypted, reason(d.Line)
	case mail != nil:
		return inClear, reason(d.Line)
	case inClearTo(seen):
		return leaked, reason(d.Line)
	case d.Status != "deferred":
		return lost, reason(d.Line)
	default:
		// Why, if the certificate is the reason, stands in a line before.
		return deferred, cmp.Or(find(about, "certificate verification failed"), reason(d.Line))
	}
}

// find returns what the first line with text in it says; empty if there is none.
func find(lines []string, text string) string {
	for _, line := range lines {
		if strings.Contains(line, text) {
			return reason(line)
		}
	}
	return ""
}

// mailOf returns the mail that was delivered, as it arrived, or nil.
func mailOf(sessions []lab.Session, d lab.Delivery) *lab.Mail {
	for _, s := range sessions {
		for _, m := range s.Mails {
			if strings.Contains(m.Data, " id "+d.ID) {
				return &m
			}
		}
	}
	return nil
}

// inClearTo reports whether anything of a mail was said in clear.
func inClearTo(sessions []lab.Session) bool {
	return slices.ContainsFunc(sessions, func(s lab.Session) bool {
		return slices.ContainsFunc(s.InClear, func(verb string) bool { return verb == "MAIL" || verb == "RCPT" || verb == "DATA" })
	})
}

var (
	addressInLog = regexp.MustCompile(`\[127[0-9.]*\](:25)?`)
	statusInLog  = regexp.MustCompile(`status=\w+ \((.*)\)$`)
	tlsInLog     = regexp.MustCompile(`\w+ TLS connection established to [^:]*|certificate verification failed.*`)
)

// reason returns what a line of the log says, without addresses.
func reason(line string) string {
	line = addressInLog.ReplaceAllString(line, "")
	if m := statusInLog.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	return tlsInLog.FindString(line)
}

// answered makes sure that Postfix has asked about a domain.
func (s *stage) answered(t *testing.T, from int, domain string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), noticedWithin)
	defer cancel()
	if _, err := s.daemon.Log.Wait(ctx, from, `"answered"`, `"`+domain+`"`); err != nil {
		t.Fatalf("Postfix has not asked about %s: %v", domain, err)
	}
}

// await asks about a domain until the daemon has logged words about it.
func (s *stage) await(t *testing.T, domain string, words ...string) {
	t.Helper()
	from := s.daemon.Log.Len()
	words = append(words, `"`+domain+`"`)
	for end := time.Now().Add(noticedWithin); time.Now().Before(end); {
		s.daemon.Ask(t, "policy", domain)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.daemon.Log.Wait(ctx, from, words...)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("the daemon has not noticed: no %q in its log:\n%s", words, strings.Join(s.daemon.Log.About(domain), "\n"))
}
