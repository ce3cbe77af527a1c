package dnstrace_test

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/dnstrace"
)

const zones = `
$SECURE example.com
example.com. MX 10 mx.example.com.
mx.example.com. A 192.0.2.1
mx.example.com. AAAA 2001:db8::1
www.example.com. CNAME mx.example.com.
_mta-sts.example.com. TXT "v=STSv1; " "id=1;"
`

func newRecorder(t *testing.T) (*dnstrace.Recorder, *dnstest.Server) {
	t.Helper()
	srv := dnstest.Start(t, zones)
	client, err := dnsclient.New(dnsclient.Options{Servers: []string{srv.Addr()}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	return dnstrace.New(client), srv
}

func TestRecorderKeepsWhatWasSaid(t *testing.T) {
	r, srv := newRecorder(t)
	if !r.Validating(t.Context()) {
		t.Error("the server does not validate")
	}
	srv.Fault("broken.example.com", dnstest.Any, dnstest.ServFail)
	for _, q := range []struct {
		name  string
		qtype uint16
	}{{"_MTA-STS.example.com.", dns.TypeTXT}, {"www.example.com", dns.TypeA}, {"example.com", dns.TypeMX}, {"none.example.com", dns.TypeA}} {
		if _, err := r.Query(t.Context(), q.name, q.qtype); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Query(t.Context(), "broken.example.com", dns.TypeA); err == nil {
		t.Fatal("an answer from a server that fails")
	}
	steps := r.Steps()
	for i, want := range []struct {
		name, qtype, data, alias string
		failed                   bool
	}{
		{"_mta-sts.example.com", "TXT", `"v=STSv1; " "id=1;"`, "", false},
		{"www.example.com", "A", "192.0.2.1", "mx.example.com", false},
		{"example.com", "MX", "10 mx.example.com.", "", false},
		{"none.example.com", "A", "", "", false},
		{"broken.example.com", "A", "", "", true},
	} {
		s := steps[i]
		var data string
		if records := s.Records(); len(records) > 0 {
			data = records[0]
		}
		alias, ok := s.Alias()
		if !ok {
			alias = ""
		}
		if s.Name != want.name || s.Type != want.qtype || data != want.data || alias != want.alias || (s.Err != nil) != want.failed || s.Took <= 0 || s.Started.IsZero() {
			t.Errorf("step %d: got %+v, want %+v", i, s, want)
		}
	}
	if s := steps[0].Answer; s.Security != dnsclient.Secure || s.TTL == 0 {
		t.Errorf("got %+v", s)
	}
}

// Whoever asks, and how often: the server is asked once.
func TestRecorderAsksOnce(t *testing.T) {
	r, srv := newRecorder(t)
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			answer, err := r.Query(t.Context(), "Example.com.", dns.TypeMX)
			if err != nil || len(answer.Records) != 1 {
				t.Errorf("got %v, %v", answer, err)
			}
		})
	}
	asking.Wait()
	if n := srv.CountName("example.com", "MX"); n != 1 || len(r.Steps()) != 1 {
		t.Errorf("asked %d times, %d steps", n, len(r.Steps()))
	}
}

// A question that was given up is asked again by who still wants to know.
func TestRecorderForgetsWhatWasGivenUp(t *testing.T) {
	r, _ := newRecorder(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Query(ctx, "example.com", dns.TypeMX); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if answer, err := r.Query(t.Context(), "example.com", dns.TypeMX); err != nil || len(answer.Records) != 1 {
		t.Errorf("got %v, %v", answer, err)
	}
}

// Who waits for a question that another one gave up asks it himself.
func TestRecorderDoesNotPassOnThatSomebodyGaveUp(t *testing.T) {
	r, srv := newRecorder(t)
	srv.Delay("example.com", "MX", 300*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asking.Go(func() {
		if answer, err := r.Query(ctx, "example.com", dns.TypeMX); err == nil {
			t.Errorf("got %v of a question that was given up", answer)
		}
	})
	for srv.CountName("example.com", "MX") == 0 {
		runtime.Gosched()
	}
	asking.Go(func() {
		if answer, err := r.Query(t.Context(), "example.com", dns.TypeMX); err != nil || len(answer.Records) != 1 {
			t.Errorf("got %v, %v", answer, err)
		}
	})
	cancel()
	asking.Wait()
}

func TestAddresses(t *testing.T) {
	r, srv := newRecorder(t)
	got, err := r.Addresses(t.Context(), "mx.example.com")
	if want := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, err := r.Addresses(t.Context(), "none.example.com"); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v of a name that does not exist", got, err)
	}
	srv.Fault("half.example.com", "AAAA", dnstest.ServFail)
	if got, err := r.Addresses(t.Context(), "half.example.com"); err == nil || len(got) > 0 {
		t.Errorf("got %v, %v of a lookup that failed", got, err)
	}
}
