package check

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"sync"
	"time"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap"
)

// Report is what was found out about mail to one next-hop.
type Report struct {
	// Key is the next-hop as it was written, Hop as it was read.
	Key   string
	Hop   policy.NextHop
	Asked time.Time
	// Unasked says why the daemon does not look at the key; nil if it does. If
	// it does not, there are the conclusion, the answers and Postfix only.
	Unasked error

	// Conclusion is what all of it means.
	Conclusion Conclusion
	// Answers are what the daemon would answer without a memory, by map.
	Answers []Answer

	// Servers are the DNS servers and their tests. Blind says that none
	// validates, so that DANE is off.
	Servers []dnsclient.ServerStatus
	Blind   bool
	// DNS is every question that was asked.
	DNS []dnstrace.Step
	// STS is the fact, and Fetch how the policy was fetched; nil if it was
	// not.
	STS   policy.STS
	Fetch *Fetch
	// DANE is the fact; MX are the mail hosts, also where DANE has no say, and
	// MXErr says why they are not known.
	DANE  policy.DANE
	MX    []policy.MXHost
	MXErr error
	// Hosts are the mail hosts with all that is known of them.
	Hosts []Host

	// Postfix is what was seen of Postfix, and Daemon of the daemon; nil if
	// nobody looked.
	Postfix *Postfix
	Daemon  *DaemonView
	// Recalled is the report that follows from what the daemon knows and the
	// network does not give now, as far as it differs; nil if the daemon knows
	// no more.
	Recalled *Report

	listen []string // where the daemon listens
}

// decisive is the report that the conclusion is drawn from.
func (r *Report) decisive() *Report {
	if r.Recalled != nil {
		return r.Recalled
	}
	return r
}

// Answer is what one map says.
type Answer struct {
	Map     string
	Verdict policy.Verdict
	Reply   socketmap.Reply
}

// Host is a mail host.
type Host struct {
	Name       string
	Preference uint16
	// DANE is the state of the host as a word; empty where DANE has no say.
	// Detail says why.
	DANE, Detail string
	// Listed says whether the policy allows the host, by Pattern.
	Listed  bool
	Pattern string
	// Addresses are where the host is, and AddressErr says why that is not
	// known. Only the first hosts are looked at.
	Addresses  []netip.Addr
	AddressErr error
	// Probes are what the host itself showed, by address, and Probe is the one
	// that decides; nil if nobody looked.
	Probes []*Probe
	Probe  *Probe
}

// Fetch is how a policy was fetched.
type Fetch struct {
	URL  string
	Took time.Duration

	mu sync.Mutex // guards what follows while the fetch goes on

	Allowed  []netip.Addr
	Refused  []string
	Attempts []Attempt
	// TLS is the handshake; nil if it did not come to that.
	TLS *mtasts.Handshake
	// Status and MediaType are those of the answer; 0 if there was none.
	Status    int
	MediaType string
	// Text is the file, and Findings are the remarks on it.
	Text     string
	Findings []mtasts.Finding
}

// Attempt is an attempt to connect.
type Attempt struct {
	Target string
	Took   time.Duration
	Err    error
}

// trace returns a trace that notes down every step.
func (f *Fetch) trace() *mtasts.Trace {
	note := func(do func()) {
		f.mu.Lock()
		defer f.mu.Unlock()
		do()
	}
	return &mtasts.Trace{
		Addresses: func(allowed []netip.Addr, refused []string) {
			note(func() { f.Allowed, f.Refused = allowed, refused })
		},
		Connected: func(target string, took time.Duration, err error) {
			if errors.Is(err, context.Canceled) {
				return // another one was faster
			}
			note(func() { f.Attempts = append(f.Attempts, Attempt{target, took, err}) })
		},
		Handshake: func(h mtasts.Handshake) { note(func() { f.TLS = &h }) },
		Answered: func(status int, mediaType string, _ time.Duration) {
			note(func() { f.Status, f.MediaType = status, mediaType })
		},
		Text: func(text string) { note(func() { f.Text = text }) },
	}
}

// chain returns the certificates of the policy host.
func (f *Fetch) chain() []*x509.Certificate {
	if f.TLS == nil {
		return nil
	}
	return f.TLS.Chain
}

// by returns the verdict of a class.
func (r *Report) by(mapName string) policy.Verdict {
	for _, a := range r.Answers {
		if a.Map == mapName {
			return a.Verdict
		}
	}
	return policy.Verdict{}
}
