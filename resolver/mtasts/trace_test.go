package mtasts

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

// seen is what a trace saw of one fetch.
type seen struct {
	allowed    []netip.Addr
	refused    []string
	connected  []string
	handshakes []Handshake
	status     int
	mediaType  string
	text       string
}

func (s *seen) trace() *Trace {
	return &Trace{
		Addresses: func(allowed []netip.Addr, refused []string) { s.allowed, s.refused = allowed, refused },
		Connected: func(target string, _ time.Duration, err error) {
			if err == nil {
				s.connected = append(s.connected, target)
			}
		},
		Handshake: func(h Handshake) { s.handshakes = append(s.handshakes, h) },
		Answered:  func(status int, mediaType string, _ time.Duration) { s.status, s.mediaType = status, mediaType },
		Text:      func(text string) { s.text = text },
	}
}

func TestTraceSeesEveryStepOfAFetch(t *testing.T) {
	ca := newAuthority(t, "Test root")
	h := startHost(t, ca, nil, plainText("version: STSv1\nmode: nonsense\n"))
	h.zones.SetZone(hostZone + "mta-sts.example.com. A 10.0.0.1\n")
	var got seen
	h.Fetch(WithTrace(t.Context(), got.trace()), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})

	if want := []netip.Addr{netip.MustParseAddr("198.41.0.4")}; !slices.Equal(got.allowed, want) {
		t.Errorf("allowed: got %v, want %v", got.allowed, want)
	}
	if want := []string{"10.0.0.1 is private use (RFC 1918)"}; !slices.Equal(got.refused, want) {
		t.Errorf("refused: got %q, want %q", got.refused, want)
	}
	if want := []string{"198.41.0.4:443"}; !slices.Equal(got.connected, want) {
		t.Errorf("connected: got %q, want %q", got.connected, want)
	}
	if len(got.handshakes) != 1 || got.handshakes[0].Err != nil || got.handshakes[0].Version != "TLS 1.3" || len(got.handshakes[0].Chain) != 1 {
		t.Errorf("handshakes: got %+v", got.handshakes)
	}
	if got.status != 200 || got.mediaType != "text/plain" {
		t.Errorf("answer: got %d, %q", got.status, got.mediaType)
	}
	if got.text != "version: STSv1\nmode: nonsense\n" {
		t.Errorf("text: got %q", got.text)
	}
}

func TestTraceSeesTheCertificateThatIsRefused(t *testing.T) {
	ca := newAuthority(t, "Test root")
	config := &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, func(c *x509.Certificate) { c.NotAfter = yesterday }, "mta-sts.example.com")}}
	h := startHost(t, ca, config, answer)
	var got seen
	h.Fetch(WithTrace(t.Context(), got.trace()), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
	if len(got.handshakes) != 1 || got.handshakes[0].Err == nil || len(got.handshakes[0].Chain) != 1 || !got.handshakes[0].Chain[0].NotAfter.Equal(yesterday) {
		t.Errorf("handshakes: got %+v", got.handshakes)
	}
	if got.status != 0 || got.text != "" {
		t.Errorf("after a handshake that failed came %d, %q", got.status, got.text)
	}
}

// A trace without functions, and no trace, are the same.
func TestTraceMayBeEmpty(t *testing.T) {
	ca := newAuthority(t, "Test root")
	for _, trace := range []*Trace{nil, {}} {
		h := startHost(t, ca, nil, answer)
		got := h.Fetch(WithTrace(t.Context(), trace), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
		if got.Policy == nil {
			t.Errorf("%v: no policy: %s", trace, got.Failure.Reason)
		}
	}
}
