package check

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"tlspolicyd/internal/printable"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

const (
	// maxShown is how much of one line is shown, in characters.
	maxShown = 400
	// firstLines is within how many lines stands what matters.
	firstLines = 5
	// maxPolicyLines is how many lines of a policy are shown.
	maxPolicyLines = 60
)

// Text returns the report for people: the conclusion, the answers, then every
// step. It holds printable characters and newlines only.
func (r *Report) Text() string {
	t := &text{}
	t.line("%s: %s", r.Key, r.Conclusion.Summary)
	r.Conclusion.text(t)
	heading := "answers"
	if r.Recalled != nil {
		heading = "answers, from what the daemon remembers"
	}
	t.head(heading)
	for _, a := range r.decisive().Answers {
		t.line("  %-19s %s", a.Map, a.Reply)
	}
	if r.Unasked == nil {
		r.textServers(t)
		r.textSTS(t)
		r.textHosts(t)
		r.textLookups(t)
		r.textDaemon(t)
	}
	r.textPostfix(t)
	if r.exceptable() {
		e := r.Exception()
		t.head("to except it from every policy")
		t.whole("table", e.Line)
		t.whole("main.cf", e.Setting)
	}
	return t.b.String()
}

// text shows the causes, what is wrong here and the remedy: the first of each
// within the first lines, as many as there is room for, and the others below.
func (c *Conclusion) text(t *text) {
	room := firstLines - 1
	if c.Remedy != "" {
		room--
	}
	here := min(len(c.Here), 1)
	because := min(len(c.Because), room-here)
	here = min(len(c.Here), room-because)
	t.items("because", c.Because[:because])
	t.items("here", c.Here[:here])
	if c.Remedy != "" {
		t.item("remedy", "%s", c.Remedy)
	}
	t.items("because", c.Because[because:])
	t.items("here", c.Here[here:])
}

func (r *Report) textServers(t *text) {
	t.head("DNS servers")
	for _, s := range r.Servers {
		how := s.Outcome.String()
		if s.Detail != "" {
			how += ": " + s.Detail
		}
		t.line("  %s  %s", s.Addr, how)
	}
}

func (r *Report) textSTS(t *text) {
	t.head("MTA-STS")
	host := mtasts.PolicyHost(r.Hop.Domain)
	for _, s := range r.DNS {
		if s.Type == "TXT" || s.Name == host {
			t.lookup(s)
		}
	}
	if r.STS.Detail != "" {
		t.item("record", "%s: %s", r.STS.Record, r.STS.Detail)
	}
	if r.Fetch != nil {
		r.Fetch.text(t)
		if f := r.STS.Failure; f.Reason != "" {
			t.item("refused", "%s: %s", f.Kind, f.Reason)
		}
	}
	if p := r.STS.Policy; p != nil {
		t.item("policy", "mode %s, max_age %d s (until %s), id %s", p.Mode, int64(p.MaxAge/time.Second), stamp(r.STS.Expires()), r.STS.ID)
	}
}

// text shows the steps of a fetch.
func (f *Fetch) text(t *text) {
	t.item("fetch", "%s (%s)", f.URL, took(f.Took))
	for _, refused := range f.Refused {
		t.item("address", "%s: not allowed", refused)
	}
	for _, a := range f.Attempts {
		how := "connected"
		if a.Err != nil {
			how = a.Err.Error()
		}
		t.item("connect", "%s: %s (%s)", a.Target, how, took(a.Took))
	}
	if f.TLS != nil {
		how := f.TLS.Version
		if f.TLS.Err != nil {
			how = f.TLS.Err.Error()
		}
		t.item("TLS", "%s (%s)", how, took(f.TLS.Took))
		t.chain(f.TLS.Chain)
	}
	if f.Status != 0 {
		t.item("HTTP", "status %d, media type %q", f.Status, f.MediaType)
	}
	f.textPolicy(t)
}

// textPolicy shows the file with the remarks below their lines.
func (f *Fetch) textPolicy(t *text) {
	n := 0
	for line := range strings.Lines(f.Text) {
		if n++; n > maxPolicyLines {
			t.line("  %9s ...", "")
			break
		}
		t.line("  %8d  %s", n, strings.TrimRight(line, "\r\n"))
		for _, finding := range f.Findings {
			if finding.Line == n {
				t.finding(finding)
			}
		}
	}
	for _, finding := range f.Findings {
		if finding.Line == 0 || finding.Line > n {
			t.finding(finding)
		}
	}
}

func (r *Report) textHosts(t *text) {
	t.head("mail hosts")
	for _, s := range r.DNS {
		if s.Type == "MX" {
			t.lookup(s)
		}
	}
	if why := r.DANE.MX.String(); len(r.DANE.Hosts) == 0 {
		t.item("DANE", "MX answer: %s", withDetail(why, r.DANE.Detail))
	}
	hosts := r.decisive().Hosts
	for _, h := range hosts[:min(len(hosts), maxHosts)] {
		h.text(t, r.decisive().STS.Policy)
	}
	if more := len(hosts) - maxHosts; more > 0 {
		t.line("         and %d more, which are not looked at", more)
	}
}

func (h *Host) text(t *text, p *policy.STSPolicy) {
	var says []string
	switch {
	case p == nil || len(p.MX) == 0:
	case h.Listed:
		says = append(says, "in the policy ("+h.Pattern+")")
	default:
		says = append(says, "NOT in the policy")
	}
	if h.DANE != "" {
		says = append(says, "DANE "+withDetail(h.DANE, h.Detail))
	}
	if h.AddressErr != nil {
		says = append(says, "address lookup failed")
	} else if len(h.Addresses) == 0 {
		says = append(says, "no address")
	} else {
		says = append(says, "at "+some(texts(h.Addresses)))
	}
	t.line("  %5d  %s  %s", h.Preference, h.Name, strings.Join(says, ", "))
	h.textProbes(t)
}

// textProbes shows what decides, then the rest.
func (h *Host) textProbes(t *text) {
	if h.Probe != nil {
		h.Probe.text(t)
	}
	for _, p := range h.Probes {
		if p != h.Probe {
			p.text(t)
		}
	}
}

func (p *Probe) text(t *text) {
	switch {
	case p.Err != nil:
		t.item("SMTP", "%s", strings.TrimSpace(p.Target+" "+p.Err.Error()))
	default:
		t.item("SMTP", "%s %s (%s)", p.Target, p.Version, took(p.Took))
		t.chain(p.Chain)
	}
	switch {
	case p.Refused != "":
		t.item("Postfix", "does not deliver here: %s", p.Refused)
	case p.Early():
		t.item("Postfix", "cannot be foretold: the host did not get as far as TLS")
	case p.Note != "":
		t.item("Postfix", "%s", p.Note)
	default:
		t.item("Postfix", "delivers here")
	}
}

// textLookups shows the lookups that no other part shows.
func (r *Report) textLookups(t *text) {
	host := mtasts.PolicyHost(r.Hop.Domain)
	heading := "other lookups"
	for _, s := range r.DNS {
		if s.Type == "TXT" || s.Type == "MX" || s.Name == host {
			continue
		}
		if heading != "" {
			t.head(heading)
			heading = ""
		}
		t.lookup(s)
	}
}

func (r *Report) textDaemon(t *text) {
	if r.Daemon == nil {
		return
	}
	t.head("the daemon")
	switch err := r.Daemon.Err; {
	case errors.Is(err, fs.ErrPermission):
		t.line("  its view cannot be read by this user: %v", err)
	case err != nil:
		t.line("  its view cannot be read: %v", err)
	}
	for _, line := range r.Daemon.Lines {
		t.line("  %s", line)
	}
}

func (r *Report) textPostfix(t *text) {
	if r.Postfix == nil {
		return
	}
	t.head("Postfix")
	if r.Postfix.Err != nil {
		t.line("  %v", r.Postfix.Err)
		return
	}
	if version := r.Postfix.Settings[setVersion]; version != "" {
		t.line("  version %s", version)
	}
	for _, said := range r.Postfix.Said {
		t.item("says", "%s", said)
	}
	for _, lack := range r.Postfix.Lacks {
		t.item("main.cf", "%s", lack)
	}
	if len(r.Postfix.Lacks) == 0 {
		t.line("  main.cf lacks nothing")
	}
}

// text is a text in the making.
type text struct{ b strings.Builder }

// line adds a line, fit for a terminal whoever wrote it, and not too long.
func (t *text) line(format string, args ...any) {
	s := []rune(fmt.Sprintf(format, args...))
	if len(s) > maxShown {
		s = append(s[:maxShown], []rune("...")...)
	}
	t.add(string(s))
}

// add adds a line, fit for a terminal.
func (t *text) add(s string) { t.b.WriteString(printable.Line(s) + "\n") }

// whole adds what is to be pasted, which is never cut, with a word before it.
func (t *text) whole(word, s string) { t.add(fmt.Sprintf(itemFormat, word, s)) }

// itemFormat is a line with a word before it.
const itemFormat = "  %-8s %s"

// items adds a line for each of the sentences.
func (t *text) items(word string, sentences []string) {
	for _, s := range sentences {
		t.item(word, "%s", s)
	}
}

func (t *text) head(s string) {
	t.b.WriteString("\n")
	t.line("%s", s)
}

// item adds a line with a word before it.
func (t *text) item(word, format string, args ...any) {
	t.line(itemFormat, word, fmt.Sprintf(format, args...))
}

// lookup shows one question to the DNS.
func (t *text) lookup(s dnstrace.Step) {
	if s.Err != nil {
		t.item(s.Type, "%s  FAILED: %v (%s)", s.Name, s.Err, took(s.Took))
		return
	}
	alias := ""
	if end, ok := s.Alias(); ok {
		alias = " -> " + end
	}
	data := strings.Join(s.Records(), "; ")
	switch {
	case data != "":
	case s.Answer.Exists:
		data = "none"
	default:
		data = "no such name"
	}
	t.item(s.Type, "%s%s  %s (TTL %d s, %s, %s)", s.Name, alias, data, int64(s.Answer.TTL/time.Second), s.Answer.Security, took(s.Took))
}

func (t *text) chain(chain []*x509.Certificate) {
	for _, cert := range chain {
		names := ""
		if len(cert.DNSNames) > 0 {
			names = ", for " + some(cert.DNSNames)
		}
		t.item("", "%q by %q, %s to %s%s", cert.Subject, cert.Issuer, stamp(cert.NotBefore), stamp(cert.NotAfter), names)
	}
}

func (t *text) finding(f mtasts.Finding) {
	s := f.Severity.String() + ": " + f.Reason
	if f.Suggestion != "" {
		s += "; instead: " + f.Suggestion
	}
	t.line("  %8s  ^ %s", "", s)
}

// stamp returns a time as people read it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// took returns a duration in three digits or so.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(100 * time.Millisecond).String()
	}
}
