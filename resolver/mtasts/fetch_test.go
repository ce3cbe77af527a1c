package mtasts

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"tlspolicyd/resolver/policy"
)

func TestFetchByAnswer(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	tests := []struct {
		name    string
		handler http.HandlerFunc
		result  string
		reason  string
	}{
		{"a policy", answer, "ok", ""},
		{"media type in capitals", respond(200, goodPolicy, "Content-Type", "TEXT/PLAIN"), "ok", ""},
		{"another charset is ignored", respond(200, goodPolicy, "Content-Type", "text/plain; charset=utf-16"), "ok", ""},
		{"other parameters are ignored", respond(200, goodPolicy, "Content-Type", `text/plain;format=flowed; x="`), "ok", ""},
		{"identity is no encoding", respond(200, goodPolicy, "Content-Type", "text/plain", "Content-Encoding", "identity"), "ok", ""},
		{"what caches are told is ignored", respond(200, goodPolicy, "Content-Type", "text/plain", "Cache-Control", "max-age=1", "Expires", "0"), "ok", ""},
		{"64 KiB", plainText(sized(65536)), "ok", ""},
		{"without a length, in HTTP/1.0", raw("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + goodPolicy), "ok", ""},
		{"in chunks", raw(head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(goodPolicy), goodPolicy)), "ok", ""},
		{"interim answers", raw("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + head + "\r\n" + goodPolicy), "ok", ""},

		{"201", respond(201, goodPolicy, "Content-Type", "text/plain"), "status", "HTTP status 201, want 200"},
		{"204", respond(204, "", "Content-Type", "text/plain"), "status", "HTTP status 204, want 200"},
		{"206", respond(206, goodPolicy, "Content-Type", "text/plain"), "status", "HTTP status 206, want 200"},
		{"301", respond(301, goodPolicy, "Content-Type", "text/plain", "Location", "/elsewhere"), "status", "HTTP status 301, want 200 (redirects are not followed)"},
		{"302", respond(302, "", "Location", "https://mta-sts.example.com/x"), "status", "HTTP status 302, want 200 (redirects are not followed)"},
		{"304", respond(304, ""), "status", "HTTP status 304"},
		{"308", respond(308, "", "Location", "/x"), "status", "HTTP status 308"},
		{"404", respond(404, goodPolicy, "Content-Type", "text/plain"), "status", "HTTP status 404, want 200"},
		{"500", respond(500, "", "Content-Type", "text/plain"), "status", "HTTP status 500, want 200"},
		{"101", raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "status", "HTTP status 101, want 200"},
		{"interim answers without end", raw(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 6) + head + "\r\n" + goodPolicy), "status", "more than 5 interim answers"},
		{"HTTP of another kind", raw("HTTP/2.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + goodPolicy), "status", "an answer in HTTP/2.0, want HTTP/1.1"},
		{"no HTTP", raw("220 mx.example.com ESMTP\r\n\r\n"), "status", "not an answer in HTTP"},
		{"malformed chunks", raw(head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + goodPolicy), "status", "not a body in HTTP"},
		{"two lengths", raw(head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + goodPolicy), "status", "not an answer in HTTP"},

		{"html", respond(200, "<html>", "Content-Type", "text/html; charset=utf-8"), "type", `media type "text/html", want text/plain`},
		{"no media type", respond(200, goodPolicy), "type", "no media type, want text/plain"},
		{"an empty media type", respond(200, goodPolicy, "Content-Type", ""), "type", `media type "", want text/plain`},
		{"two media types", respond(200, goodPolicy, "Content-Type", "text/plain", "Content-Type", "text/html"), "type", `media type "text/html"`},
		{"a list of media types", respond(200, goodPolicy, "Content-Type", "text/plain, text/html"), "type", `media type "text/plain, text/html"`},
		{"a longer media type", respond(200, goodPolicy, "Content-Type", "text/plainer"), "type", `media type "text/plainer"`},
		{"gzip", gzipped(1), "type", `content encoding "gzip", want none`},
		{"gzip bomb", gzipped(8 << 10), "type", `content encoding "gzip", want none`},

		{"64 KiB + 1", respond(200, sized(65537), "Content-Type", "text/plain", "Content-Length", "65537"), "size", "policy is of 65537 bytes, at most 65536 are allowed"},
		{"64 KiB + 1 without a length", raw("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + sized(65537)), "size", "policy is larger than 65536 bytes"},
		{"1 GiB", endless, "size", "policy is larger than 65536 bytes"},
		{"headers of 17 KiB", respond(200, goodPolicy, "Content-Type", "text/plain", "X-Long", strings.Repeat("x", 17<<10)), "size", "headers are larger than 16384 bytes"},
		{"many headers", respond(200, goodPolicy, slices.Repeat([]string{"X", strings.Repeat("x", 100)}, 200)...), "size", "headers are larger than 16384 bytes"},
		{"large interim answers", raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 6000)+"\r\n\r\n", 3) + head + "\r\n" + goodPolicy), "size", "headers are larger than 16384 bytes"},

		{"reset", reset, "connect", "connection reset by peer"},
		{"closed without an answer", raw(""), "connect", "the connection ended before the answer did"},
		{"closed within the headers", raw(head), "connect", "the connection ended before the answer did"},
		{"closed within the body", raw(head + "Content-Length: 1000\r\n\r\n" + goodPolicy), "connect", "the connection ended before the policy did"},
		{"closed within the chunks", raw(head + "Transfer-Encoding: chunked\r\n\r\n10\r\nversion"), "connect", "the connection ended before the policy did"},
		{"closed between the chunks", raw(head + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(goodPolicy), goodPolicy)), "connect", "the connection ended before the policy did"},
		{"cut off without a length", cut(head + "\r\n" + goodPolicy), "connect", "the policy may be incomplete"},
		{"TLS not ended after a length", cut(head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(goodPolicy)) + goodPolicy), "ok", ""},

		{"no policy", plainText("version: STSv2\n"), "syntax", "STSv2"},
		{"empty", plainText(""), "syntax", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t, ca, nil, tt.handler)
			checkFetch(t, h, tt.result, tt.reason)
			if n := len(h.seen()); n != 1 {
				t.Errorf("got %d requests, want 1", n)
			}
		})
	}
}

// checkFetch fetches the policy of example.com and checks the outcome.
func checkFetch(t *testing.T, h *policyHost, result, reason string) {
	t.Helper()
	got := h.Fetch(t.Context(), mustDomain(t, "example.com"), policy.STS{Wanted: "1"})
	if result == "ok" {
		if got.Policy == nil || got.ID != "1" {
			t.Fatalf("no policy: %+v", got.Failure)
		}
		return
	}
	if got.Policy != nil {
		t.Errorf("got a policy")
	}
	f := got.Failure
	if f.Kind != result || f.ID != "1" || f.Count != 1 {
		t.Errorf("got %+v, want kind %s", f, result)
	}
	checkReason(t, f.Reason, reason)
}

func checkReason(t *testing.T, got, want string) {
	t.Helper()
	if got == "" || len(got) > maxReason || printable(got) != len(got) {
		t.Errorf("not a reason: %q", got)
	}
	if !strings.Contains(got, want) {
		t.Errorf("got reason %q, want %q in it", got, want)
	}
}

func TestFetchByCertificate(t *testing.T) {
	ca, other := newAuthority(t, "Test Root"), newAuthority(t, "Another Root")
	expired := func(c *x509.Certificate) { c.NotAfter = yesterday }
	future := func(c *x509.Certificate) { c.NotBefore = farAhead.AddDate(-1, 0, 0) }
	common := func(c *x509.Certificate) { c.Subject.CommonName = "mta-sts.example.com" }
	address := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(198, 41, 0, 4)} }
	client := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	cert := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	tests := []struct {
		name   string
		config *tls.Config
		result string
		reason string
	}{
		{"for the host", cert(ca.leaf(t, nil, "mta-sts.example.com")), "ok", ""},
		{"for the host among others", cert(ca.leaf(t, nil, "www.example.com", "MTA-STS.example.com")), "ok", ""},
		{"wildcard", cert(ca.leaf(t, nil, "*.example.com")), "ok", ""},
		{"TLS 1.2 only", &tls.Config{MaxVersion: tls.VersionTLS12}, "ok", ""},
		{"TLS 1.3 only", &tls.Config{MinVersion: tls.VersionTLS13}, "ok", ""},

		{"expired", cert(ca.leaf(t, expired, "mta-sts.example.com")), "tls", "certificate is valid from 1990-01-01T00:00:00Z to 1999-12-31T00:00:00Z only"},
		{"not yet valid", cert(ca.leaf(t, future, "mta-sts.example.com")), "tls", "certificate is valid from 2199"},
		{"self-signed", cert(selfSigned(t, "mta-sts.example.com")), "tls", "not signed by a known authority"},
		{"unknown authority", cert(other.leaf(t, nil, "mta-sts.example.com")), "tls", `issuer "CN=Another Root"`},
		{"for another host", cert(ca.leaf(t, nil, "other.example")), "tls", "certificate is for other.example, want mta-sts.example.com"},
		{"for the domain", cert(ca.leaf(t, nil, "example.com")), "tls", "certificate is for example.com, want mta-sts.example.com"},
		{"for many other hosts", cert(ca.leaf(t, nil, "a.example", "b.example", "c.example", "d.example")), "tls", "certificate is for a.example, b.example, c.example and 1 more"},
		{"common name only", cert(ca.leaf(t, common)), "tls", "certificate is for no DNS name"},
		{"common name and another host", cert(ca.leaf(t, common, "other.example")), "tls", "certificate is for other.example"},
		{"address only", cert(ca.leaf(t, address)), "tls", "certificate is for no DNS name"},
		{"wildcard within a label", cert(ca.leaf(t, nil, "mta-*.example.com")), "tls", "certificate is for mta-*.example.com"},
		{"wildcard for two labels", cert(ca.leaf(t, nil, "*.com")), "tls", "certificate is for *.com"},
		{"not for servers", cert(ca.leaf(t, client, "mta-sts.example.com")), "tls", "usage"},
		{"TLS 1.1 only", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "tls", "protocol version"},
		{"another protocol only", &tls.Config{GetConfigForClient: noHTTP(ca.leaf(t, nil, "mta-sts.example.com"))}, "tls", "no application protocol"},
		{"wants a certificate of ours", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, "tls", "certificate required"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := startHost(t, ca, tt.config, answer)
			checkFetch(t, h, tt.result, tt.reason)
			want := 0
			if tt.result == "ok" {
				want = 1
			}
			if n := len(h.seen()); n != want {
				t.Errorf("got %d requests, want %d", n, want)
			}
		})
	}
}

// noHTTP is the configuration of a server that does not speak HTTP/1.1;
// package httptest would add that.
func noHTTP(c tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	return func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{NextProtos: []string{"acme-tls/1"}, Certificates: []tls.Certificate{c}}, nil
	}
}

func TestRequestSaysWhatItMust(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "http://127.0.0.1:1")
	ca := newAuthority(t, "Test Root")
	h := startHost(t, ca, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
		answer(w, r)
	})
	for range 2 {
		checkFetch(t, h, "ok", "")
	}
	seen := h.seen()
	if len(seen) != 2 {
		t.Fatalf("got %d requests, want 2", len(seen))
	}
	want := http.Header{
		"User-Agent": {"tlspolicyd/1.2"}, "Accept": {"text/plain"}, "Accept-Encoding": {"identity"}, "Connection": {"close"},
	}
	for _, r := range seen {
		if r.Method != http.MethodGet || r.RequestURI != "/.well-known/mta-sts.txt" || r.Host != "mta-sts.example.com" || r.Proto != "HTTP/1.1" {
			t.Errorf("got %s %s of %s over %s", r.Method, r.RequestURI, r.Host, r.Proto)
		}
		if r.TLS.ServerName != "mta-sts.example.com" || r.TLS.DidResume {
			t.Errorf("got SNI %q, resumed %v", r.TLS.ServerName, r.TLS.DidResume)
		}
		if fmt.Sprint(r.Header) != fmt.Sprint(want) {
			t.Errorf("got headers %v, want %v", r.Header, want)
		}
	}
	if seen[0].RemoteAddr == seen[1].RemoteAddr {
		t.Errorf("a connection was used twice")
	}
}

func TestLargeBodiesTakeNoMemory(t *testing.T) {
	ca := newAuthority(t, "Test Root")
	for name, handler := range map[string]http.HandlerFunc{"1 GiB": endless, "gzip bomb": gzipped(8 << 10)} {
		h := startHost(t, ca, nil, handler)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		text, failed := h.fetcher.fetch(t.Context(), mustDomain(t, "example.com"), h.fetcher.first)
		runtime.ReadMemStats(&after)
		if failed == nil || text != "" {
			t.Errorf("%s: got %d bytes", name, len(text))
		}
		// The server's share is in it, too.
		const most = 8 << 20
		if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
			t.Errorf("%s: %d bytes were allocated, want at most %d", name, grown, most)
		}
	}
}
