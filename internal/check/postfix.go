package check

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap/policymap"
)

// Postconf reads settings of Postfix by name. The error says that there is no
// Postfix, or that its settings cannot be read.
type Postconf func(ctx context.Context, names ...string) (Settings, error)

// Settings are settings of Postfix.
type Settings struct {
	// Values are by name; what is not set is missing.
	Values map[string]string
	// Said is what postconf complained about, line by line.
	Said []string
}

// The settings that matter.
const (
	setVersion    = "mail_version"
	setLevel      = "smtp_tls_security_level"
	setDNS        = "smtp_dns_support_level"
	setMaps       = "smtp_tls_policy_maps"
	setCAFile     = "smtp_tls_CAfile"
	setCAPath     = "smtp_tls_CApath"
	setDefaultCAs = "tls_append_default_CA"
	setHELO       = "smtp_helo_name"
	setHostName   = "myhostname"
	setQueue      = "queue_directory"
)

// Postfix is what was seen of Postfix's settings.
type Postfix struct {
	// Settings are those that matter.
	Settings map[string]string
	// Said is what postconf complained about.
	Said []string
	// Lacks says what they lack, one sentence each.
	Lacks []string
	// Elsewhere says that Postfix asks another daemon; empty if it does not.
	Elsewhere string
	// Err says why they could not be read; the rest is empty then.
	Err error

	asks []socketmapRef // the maps of the daemon that Postfix asks, in its order
}

// postfix reads the settings, if there is a Postfix.
func (c *Checker) postfix(ctx context.Context, r *Report) {
	if c.o.Postconf == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	settings, err := c.o.Postconf(ctx, setVersion, setLevel, setDNS, setMaps, setCAFile, setCAPath, setQueue)
	if err != nil {
		r.Postfix = &Postfix{Err: err}
		return
	}
	r.Postfix = &Postfix{Settings: settings.Values, Said: settings.Said}
}

// place is where the daemon listens, by its configuration, or, where running is
// set, by its own word: systemd may hold its sockets.
type place struct {
	listen  []string
	running bool
}

// place returns where the daemon listens.
func (r *Report) place(configured []string) place {
	if r.Daemon != nil && len(r.Daemon.Listen) > 0 {
		return place{r.Daemon.Listen, true}
	}
	return place{listen: configured}
}

// String says where it listens.
func (at place) String() string {
	where := strings.Join(at.listen, ", ")
	if at.running {
		return "the daemon listens on " + where
	}
	return "the daemon is to listen on " + where + " (unless systemd opens other sockets for it)"
}

// look finds what the settings lack, for a daemon at a place.
func (p *Postfix) look(at place) {
	lacks := func(format string, args ...any) { p.Lacks = append(p.Lacks, fmt.Sprintf(format, args...)) }
	switch level := p.Settings[setLevel]; {
	case level == "" || level == "none":
		lacks("%s is %q: mail to domains without a policy goes in clear; set it to dane, or to may without a validating resolver", setLevel, level)
	case p.needsDNSSEC() && !p.dnssec():
		lacks("%s = %s needs %s = dnssec; as it is, Postfix does no DANE", setLevel, level, setDNS)
	}
	if p.olderThan(3, 4) {
		lacks("Postfix %s is too old: the policies need 3.4, which knows servername=", p.Settings[setVersion])
	}
	maps := socketmaps(p.Settings[setMaps])
	if len(maps) == 0 {
		lacks("%s asks no socketmap: Postfix does not ask the daemon; add %s", setMaps, mapAt(at.listen))
	}
	p.asks, p.Elsewhere = ours(maps, at)
	if p.Elsewhere != "" {
		lacks("%s", p.Elsewhere)
	}
	for _, m := range maps {
		p.lookAt(m, lacks)
	}
	if !p.hasCAs() {
		lacks("%s and %s are empty: Postfix trusts no authority, so mail to every domain that enforces MTA-STS is deferred", setCAFile, setCAPath)
	}
}

// ours returns the maps that are asked where the daemon is, or says that none is.
// Where it is may not be known.
func ours(maps []socketmapRef, at place) (asks []socketmapRef, elsewhere string) {
	if len(maps) == 0 || len(at.listen) == 0 {
		return maps, ""
	}
	var asked []string
	for _, m := range maps {
		if m.at(at.listen) {
			asks = append(asks, m)
		}
		asked = append(asked, m.address)
	}
	if len(asks) > 0 {
		return asks, ""
	}
	return nil, fmt.Sprintf("%s asks %s, and %s", setMaps, strings.Join(asked, ", "), at)
}

// lookAt looks at one of the maps.
func (p *Postfix) lookAt(m socketmapRef, lacks func(string, ...any)) {
	known, ok := policymap.FindMap(m.name)
	switch {
	case !ok:
		lacks("there is no map %q; it is answered as map postfix, which does not look at DANE", m.name)
	case known.TLSRPT && p.olderThan(3, 10):
		lacks("map %s needs Postfix 3.10; this is %s, which refuses its policies, so mail to every domain that enforces MTA-STS is deferred: use map %s",
			m.name, p.Settings[setVersion], strings.TrimSuffix(known.Name, "-tlsrpt"))
	}
	if level := p.Settings[setLevel]; known.Class == policy.ClassDANE && !slices.Contains([]string{"", "none", "may", "dane"}, level) {
		lacks("map %s answers dane for some domains, which is less than %s = %s: use map %s",
			known.Name, setLevel, level, strings.Replace(known.Name, "-dane", "", 1))
	}
	if ok && known.Class != policy.ClassSTSOnly && !p.dnssec() {
		lacks("%s is not dnssec: mail to every domain for which the answer is dane-only is deferred", setDNS)
	}
}

// harm says what keeps Postfix from doing what the report says, what harms most
// first.
func (p *Postfix) harm(r *Report) []string {
	if p.Err != nil {
		return nil
	}
	kind, harm := r.by("policy").Kind, p.deafness()
	if answer, name := p.answer(r); name != "" {
		if kind != policy.NotFound && answer.Verdict.Kind != kind {
			harm = append(harm, fmt.Sprintf("Postfix asks map %s, which does not look at DANE; the answer is: %s", name, answer.Reply))
		}
		kind = answer.Verdict.Kind
	}
	switch kind {
	case policy.NotFound:
		return nil
	case policy.Secure:
		harm = append(harm, p.newerMaps()...)
		if !p.hasCAs() {
			harm = append(harm, "Postfix trusts no certificate authority ("+setCAFile+"), so it defers this mail")
		}
	case policy.DANEOnly:
		if !p.dnssec() {
			harm = append(harm, setDNS+" is not dnssec, so Postfix defers this mail")
		}
	}
	return harm
}

// answer returns what Postfix hears, and the map that says it: the first that
// says something, else the last. The name is empty if the daemon is not asked.
func (p *Postfix) answer(r *Report) (answer Answer, name string) {
	for _, m := range p.asks {
		known, ok := policymap.FindMap(m.name)
		if !ok {
			known.Name = "postfix" // which is what it means
		}
		for _, a := range r.Answers {
			if a.Map == known.Name {
				answer, name = a, m.name
			}
		}
		if answer.Verdict.Kind != policy.NotFound {
			break
		}
	}
	return answer, name
}

// newerMaps names the maps whose policies this Postfix does not understand.
func (p *Postfix) newerMaps() []string {
	var newer []string
	for _, m := range socketmaps(p.Settings[setMaps]) {
		if known, ok := policymap.FindMap(m.name); ok && known.TLSRPT && p.olderThan(3, 10) {
			newer = append(newer, fmt.Sprintf("map %s needs Postfix 3.10, so Postfix %s defers this mail", m.name, p.Settings[setVersion]))
		}
	}
	return newer
}

// deafness says why Postfix does not hear what the daemon answers.
func (p *Postfix) deafness() []string {
	switch {
	case len(socketmaps(p.Settings[setMaps])) == 0:
		return []string{setMaps + " asks no socketmap, so Postfix does not know of this"}
	case p.Elsewhere != "":
		return []string{p.Elsewhere + ", so Postfix does not know of this"}
	default:
		return nil
	}
}

// harmToDANE says what keeps Postfix from doing DANE where the daemon leaves it
// to Postfix.
func (p *Postfix) harmToDANE(r *Report) []string {
	if answer, _ := p.answer(r); p.Err != nil || answer.Verdict.Kind == policy.DANEOnly {
		return nil
	}
	asked := false
	for _, m := range socketmaps(p.Settings[setMaps]) {
		known, _ := policymap.FindMap(m.name)
		asked = asked || known.Class == policy.ClassDANE
	}
	switch {
	case !p.dnssec():
		return []string{setDNS + " is not dnssec, so Postfix does no DANE"}
	case !asked && !p.needsDNSSEC():
		return []string{fmt.Sprintf("%s is %q, so Postfix does no DANE: set it to dane, or ask map policy-dane", setLevel, p.Settings[setLevel])}
	default:
		return nil
	}
}

func (p *Postfix) dnssec() bool { return p.Settings[setDNS] == "dnssec" }

func (p *Postfix) needsDNSSEC() bool {
	return strings.Contains(p.Settings[setLevel], "dane")
}

// hasCAs reports whether Postfix trusts anybody. tls_append_default_CA adds to what
// is there only (postconf(5)).
func (p *Postfix) hasCAs() bool {
	return p.Settings[setCAFile] != "" || p.Settings[setCAPath] != ""
}

// olderThan reports whether the version is known and older.
func (p *Postfix) olderThan(major, minor int) bool {
	parts := strings.FieldsFunc(p.Settings[setVersion], func(c rune) bool { return c < '0' || c > '9' })
	if len(parts) < 2 {
		return false
	}
	ours, err1 := strconv.Atoi(parts[0])
	second, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (ours < major || ours == major && second < minor)
}
