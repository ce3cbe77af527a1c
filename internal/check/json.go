package check

import (
	"crypto/x509"
	"fmt"
	"time"

	"tlspolicyd/internal/printable"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/resolver/mtasts"
)

// The JSON object of a report. Its names are an interface: they stay, and new
// ones may come. Times are RFC 3339, durations seconds.
type (
	jsonReport struct {
		Key       string       `json:"key"`
		Domain    string       `json:"domain"`
		Port      uint16       `json:"port"`
		SmartHost bool         `json:"smart_host"`
		Outcome   string       `json:"outcome"`
		Summary   string       `json:"summary"`
		Because   []string     `json:"because"`
		Here      []string     `json:"here"`
		Remedy    string       `json:"remedy"`
		Answers   []jsonAnswer `json:"answers"`
		Servers   []jsonServer `json:"dns_servers"`
		Lookups   []jsonLookup `json:"lookups"`
		STS       jsonSTS      `json:"mta_sts"`
		DANE      jsonDANE     `json:"dane"`
		Hosts     []jsonHost   `json:"mail_hosts"`
		Postfix   *jsonPostfix `json:"postfix"`
		Daemon    *jsonDaemon  `json:"daemon"`
		Exception jsonExcept   `json:"exception"`
	}
	jsonAnswer struct {
		Map    string `json:"map"`
		Reply  string `json:"reply"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	}
	jsonServer struct {
		Address string `json:"address"`
		Trusted bool   `json:"trusted"`
		Test    string `json:"test"`
		Detail  string `json:"detail"`
	}
	jsonLookup struct {
		Name     string   `json:"name"`
		Type     string   `json:"type"`
		Alias    string   `json:"alias"`
		Records  []string `json:"records"`
		Exists   bool     `json:"exists"`
		Security string   `json:"security"`
		TTL      float64  `json:"ttl"`
		Took     float64  `json:"took"`
		Error    string   `json:"error"`
	}
	jsonSTS struct {
		Record  string      `json:"record"`
		Detail  string      `json:"detail"`
		Fetch   *jsonFetch  `json:"fetch"`
		Policy  *jsonPolicy `json:"policy"`
		Failure string      `json:"failure"`
		Reason  string      `json:"reason"`
	}
	jsonFetch struct {
		URL          string           `json:"url"`
		Took         float64          `json:"took"`
		Addresses    []string         `json:"addresses"`
		Refused      []string         `json:"refused"`
		Attempts     []jsonAttempt    `json:"attempts"`
		TLS          string           `json:"tls"`
		TLSError     string           `json:"tls_error"`
		Certificates []jsonCert       `json:"certificates"`
		Status       int              `json:"status"`
		MediaType    string           `json:"media_type"`
		Text         string           `json:"text"`
		Findings     []mtasts.Finding `json:"findings"`
	}
	jsonAttempt struct {
		Target string  `json:"target"`
		Took   float64 `json:"took"`
		Error  string  `json:"error"`
	}
	jsonCert struct {
		Subject   string   `json:"subject"`
		Issuer    string   `json:"issuer"`
		Names     []string `json:"names"`
		NotBefore string   `json:"not_before"`
		NotAfter  string   `json:"not_after"`
	}
	jsonPolicy struct {
		Mode    string    `json:"mode"`
		MaxAge  int64     `json:"max_age"`
		MX      []string  `json:"mx"`
		ID      string    `json:"id"`
		Expires time.Time `json:"expires"`
	}
	jsonDANE struct {
		MX     string `json:"mx"`
		Detail string `json:"detail"`
	}
	jsonHost struct {
		Name       string      `json:"name"`
		Preference uint16      `json:"preference"`
		Addresses  []string    `json:"addresses"`
		Listed     bool        `json:"in_policy"`
		Pattern    string      `json:"pattern"`
		DANE       string      `json:"dane"`
		Detail     string      `json:"detail"`
		Error      string      `json:"error"`
		Probe      *jsonProbe  `json:"smtp"`
		Probes     []jsonProbe `json:"smtp_tried"`
	}
	jsonProbe struct {
		Target       string     `json:"target"`
		STARTTLS     bool       `json:"starttls"`
		TLS          string     `json:"tls"`
		Certificates []jsonCert `json:"certificates"`
		Took         float64    `json:"took"`
		Error        string     `json:"error"`
		Delivers     bool       `json:"delivers"`
		Unknown      bool       `json:"unknown"`
		Refused      string     `json:"refused"`
		Note         string     `json:"note"`
	}
	jsonPostfix struct {
		Settings map[string]string `json:"settings"`
		Said     []string          `json:"said"`
		Lacks    []string          `json:"lacks"`
		Error    string            `json:"error"`
	}
	jsonDaemon struct {
		Policy *jsonPolicy `json:"policy"`
		Lines  []string    `json:"lines"`
		Error  string      `json:"error"`
	}
	jsonExcept struct {
		Line    string `json:"line"`
		Setting string `json:"setting"`
	}
)

// JSON returns the report for programs: one object, with all of the texts that
// [Report.Text] cuts short, and with what is not printable escaped.
func (r *Report) JSON() string {
	return printable.JSON(r.object())
}

func (r *Report) object() jsonReport {
	var e Exception
	if r.Unasked == nil || r.exceptable() {
		e = r.Exception()
	}
	o := jsonReport{
		Key: r.Key, Domain: r.Hop.Domain.String(), Port: r.Hop.Port, SmartHost: r.Hop.SmartHost,
		Outcome: r.Conclusion.Outcome.String(), Summary: r.Conclusion.Summary,
		Because: list(r.Conclusion.Because), Here: list(r.Conclusion.Here), Remedy: r.Conclusion.Remedy,
		Answers: []jsonAnswer{}, Servers: []jsonServer{}, Lookups: []jsonLookup{}, Hosts: []jsonHost{},
		STS:       r.objectSTS(),
		DANE:      jsonDANE{r.DANE.MX.String(), r.DANE.Detail},
		Exception: jsonExcept(e),
	}
	for _, a := range r.decisive().Answers {
		o.Answers = append(o.Answers, jsonAnswer{a.Map, a.Reply.String(), a.Verdict.Reason, a.Verdict.Detail})
	}
	for _, s := range r.Servers {
		o.Servers = append(o.Servers, jsonServer{s.Addr.String(), s.Trusted, s.Outcome.String(), s.Detail})
	}
	for _, s := range r.DNS {
		o.Lookups = append(o.Lookups, objectLookup(s))
	}
	for _, h := range r.decisive().Hosts {
		o.Hosts = append(o.Hosts, h.object())
	}
	if p := r.Postfix; p != nil {
		o.Postfix = &jsonPostfix{p.Settings, list(p.Said), list(p.Lacks), errorText(p.Err)}
	}
	if d := r.Daemon; d != nil {
		known := Report{STS: d.STS}
		o.Daemon = &jsonDaemon{known.objectPolicy(), list(d.Lines), errorText(d.Err)}
	}
	return o
}

func objectLookup(s dnstrace.Step) jsonLookup {
	o := jsonLookup{
		Name: s.Name, Type: s.Type, Records: list(s.Records()), Exists: s.Answer.Exists, Security: s.Answer.Security.String(),
		TTL: s.Answer.TTL.Seconds(), Took: s.Took.Seconds(), Error: errorText(s.Err),
	}
	if end, ok := s.Alias(); ok {
		o.Alias = end
	}
	return o
}

func (r *Report) objectSTS() jsonSTS {
	o := jsonSTS{
		Record: r.STS.Record.String(), Detail: r.STS.Detail, Policy: r.objectPolicy(),
		Failure: r.STS.Failure.Kind, Reason: r.STS.Failure.Reason,
	}
	f := r.Fetch
	if f == nil {
		return o
	}
	o.Fetch = &jsonFetch{
		URL: f.URL, Took: f.Took.Seconds(), Addresses: texts(f.Allowed), Refused: list(f.Refused), Attempts: []jsonAttempt{},
		Certificates: objectChain(f.chain()), Status: f.Status, MediaType: f.MediaType, Text: f.Text, Findings: append([]mtasts.Finding{}, f.Findings...),
	}
	if f.TLS != nil {
		o.Fetch.TLS, o.Fetch.TLSError = f.TLS.Version, errorText(f.TLS.Err)
	}
	for _, a := range f.Attempts {
		o.Fetch.Attempts = append(o.Fetch.Attempts, jsonAttempt{a.Target, a.Took.Seconds(), errorText(a.Err)})
	}
	return o
}

func (r *Report) objectPolicy() *jsonPolicy {
	p := r.STS.Policy
	if p == nil {
		return nil
	}
	return &jsonPolicy{p.Mode.String(), int64(p.MaxAge / time.Second), list(patterns(p)), r.STS.ID, r.STS.Expires().UTC().Round(time.Second)}
}

func (h *Host) object() jsonHost {
	o := jsonHost{
		Name: h.Name, Preference: h.Preference, Addresses: texts(h.Addresses), Listed: h.Listed, Pattern: h.Pattern,
		DANE: h.DANE, Detail: h.Detail, Error: errorText(h.AddressErr), Probes: []jsonProbe{},
	}
	for _, p := range h.Probes {
		o.Probes = append(o.Probes, p.object())
	}
	if h.Probe != nil {
		decisive := h.Probe.object()
		o.Probe = &decisive
	}
	return o
}

func (p *Probe) object() jsonProbe {
	return jsonProbe{
		Target: p.Target, STARTTLS: p.STARTTLS, TLS: p.Version, Certificates: objectChain(p.Chain), Took: p.Took.Seconds(),
		Error: errorText(p.Err), Delivers: p.passed(), Unknown: p.Refused == "" && p.Early(), Refused: p.Refused, Note: p.Note,
	}
}

func objectChain(chain []*x509.Certificate) []jsonCert {
	certs := []jsonCert{}
	// Not every time that a certificate can hold can be encoded as a time.
	date := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	for _, c := range chain {
		certs = append(certs, jsonCert{c.Subject.String(), c.Issuer.String(), list(c.DNSNames), date(c.NotBefore), date(c.NotAfter)})
	}
	return certs
}

// list returns a list that is never null.
func list(s []string) []string { return append([]string{}, s...) }

func texts[T fmt.Stringer](values []T) []string {
	list := []string{}
	for _, v := range values {
		list = append(list, v.String())
	}
	return list
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
