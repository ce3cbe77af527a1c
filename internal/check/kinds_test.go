package check_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"tlspolicyd/internal/check"
	"tlspolicyd/resolver/dnstest"
)

// Zones to put together.
const (
	announced = `
_mta-sts.example.com. TXT "v=STSv1; id=1;"
mta-sts.example.com. A 198.41.0.4
`
	oneMX = `
example.com. MX 10 mx1.example.com.
mx1.example.com. A 198.51.100.1
`
	twoMX = oneMX + `
example.com. MX 20 mx2.example.com.
mx2.example.com. A 198.51.100.2
`
	samePref = oneMX + `
example.com. MX 10 mx2.example.com.
mx2.example.com. A 198.51.100.2
`
	signed   = "$SECURE example.com\n"
	usable   = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	unusable = "1 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	tlsa1    = "_25._tcp.mx1.example.com. TLSA "
	tlsa2    = "_25._tcp.mx2.example.com. TLSA "
)

// Policies.
const (
	enforce  = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: mx2.example.com\nmax_age: 604800\n"
	wildcard = "version: STSv1\nmode: enforce\nmx: *.example.com\nmax_age: 604800\n"
	old      = "version: STSv1\nmode: enforce\nmx: old.example.net\nmax_age: 604800\n"
	onlyMX1  = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmax_age: 604800\n"
	testingP = "version: STSv1\nmode: testing\nmx: mx1.example.com\nmax_age: 604800\n"
	noneP    = "version: STSv1\nmode: none\nmax_age: 604800\n"
)

// many publishes n mail hosts, mx101 first.
func many(n int) string {
	var zone strings.Builder
	for i := 101; i <= 100+n; i++ {
		fmt.Fprintf(&zone, "example.com. MX %[1]d mx%[1]d.example.com.\nmx%[1]d.example.com. A 198.51.100.1\n", i)
	}
	return zone.String()
}

// kind is one kind of domain, and what the first five lines say of it.
type kind struct {
	name  string
	key   string // empty means example.com
	world world
	want  check.Outcome
	says  []string
}

// hang answers when the client has gone.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func fault(name, qtype string, f dnstest.Fault) func(*dnstest.Server) {
	return func(s *dnstest.Server) { s.Fault(name, qtype, f) }
}

func certs(ca *authority) map[string]*tls.Certificate {
	made := map[string]tls.Certificate{
		"expired":  ca.leaf(expired, "mta-sts.example.com"),
		"other":    ca.leaf(nil, "www.example.com"),
		"alone":    ca.leaf(alone, "mta-sts.example.com"),
		"nameless": ca.leaf(nameless),
	}
	all := make(map[string]*tls.Certificate)
	for name, cert := range made {
		all[name] = &cert
	}
	return all
}

func kinds(ca *authority) []kind {
	return slices.Concat(published(ca), shown(ca))
}

// shown are kinds of domains that enforce a policy, by what their mail hosts
// show to those who ask them (--smtp).
func shown(ca *authority) []kind {
	good := ca.leaf(nil, "mx1.example.com")
	mail := func(hosts ...*mailHost) map[string]*mailHost {
		all := make(map[string]*mailHost)
		for i, h := range hosts {
			all[fmt.Sprintf("198.51.100.%d:25", i+1)] = h
		}
		return all
	}
	binds := func(zones string, mail map[string]*mailHost) world {
		text := enforce
		if strings.Contains(zones, "mx101") {
			text = wildcard
		}
		return world{zones: announced + zones, web: file(text), mail: mail}
	}
	const (
		notKnown = "it cannot be known whether mail gets through: no mail host got as far as TLS"
		theirs   = "the host turns this machine away before TLS, whatever the policy is"
		slow     = "Postfix has more patience"
	)
	refused := mailHost{cert: ca.leaf(expired, "mx1.example.com", "mx2.example.com")}
	return []kind{
		{"greeted with 421", "", binds(oneMX, mail(&mailHost{cert: good, greeting: "421 too many connections\r\n"})), check.Unknown,
			[]string{notKnown, `mx1.example.com: the greeting is "421 too many connections", want 220`, theirs}},
		{"greeted with 554", "", binds(oneMX, mail(&mailHost{cert: good, greeting: "554 5.7.1 blocked\r\n"})), check.Unknown,
			[]string{notKnown, `the greeting is "554 5.7.1 blocked", want 220`, theirs}},
		{"no mail server", "", binds(oneMX, mail(&mailHost{cert: good, greeting: "HTTP/1.0 400 Bad Request\r\n"})), check.Unknown,
			[]string{notKnown, theirs}},
		{"EHLO refused, HELO not", "", binds(oneMX, mail(&mailHost{cert: good, offer: "550-who\r\n550 are you\r\n"})), check.Deferred,
			[]string{"no mail host meets the domain's MTA-STS policy", `mx1.example.com: the host does not offer STARTTLS: the answer to EHLO is "550-who", want 250`}},
		{"EHLO put off, HELO not", "", binds(oneMX, mail(&mailHost{cert: good, offer: "450 who are you\r\n"})), check.Deferred,
			[]string{"no mail host meets the domain's MTA-STS policy", "the host does not offer STARTTLS"}},
		{"EHLO and HELO refused", "", binds(oneMX, mail(&mailHost{cert: good, offer: "550 who are you\r\n", helo: "554 go away\r\n"})), check.Unknown,
			[]string{notKnown, `the answer to HELO is "554 go away", want 250`, theirs}},
		{"EHLO answered with 421", "", binds(oneMX, mail(&mailHost{cert: good, offer: "421 too many connections\r\n"})), check.Unknown,
			[]string{notKnown, `the answer to EHLO is "421 too many connections", want 250`, theirs}},
		{"nothing enforced, EHLO refused, HELO not", "", world{zones: oneMX, mail: mail(&mailHost{offer: "550 who are you\r\n"})}, check.Unauthenticated,
			[]string{"mail is not authenticated"}},
		{"STARTTLS answered with 454", "", binds(oneMX, mail(&mailHost{cert: good, after: "454 4.7.0 TLS not available\r\n"})), check.Unknown,
			[]string{notKnown, `the answer to STARTTLS is "454 4.7.0 TLS not available", want 220`, "the host offers STARTTLS and does not begin it"}},
		{"a tarpit", "", binds(oneMX, mail(&mailHost{cert: good, hang: true})), check.Unknown,
			[]string{notKnown, "mx1.example.com: no end within 1s\n", slow}},
		{"hung up on", "", binds(oneMX, mail(&mailHost{cert: good, bye: true})), check.Unknown,
			[]string{notKnown, "mx1.example.com: the host hung up before the greeting\n", slow}},
		{"TLS that never begins", "", binds(oneMX, mail(&mailHost{cert: good, mute: true})), check.Unknown,
			[]string{notKnown, "mx1.example.com: no end within 1s", slow}},
		{"no connection", "", binds(oneMX, mail()), check.Unknown,
			[]string{"no mail host can be reached from here", "mx1.example.com: no connection: connection refused", "port 25 is closed here"}},
		{"one host without connection, one greeted with 421", "", binds(twoMX, mail(nil, &mailHost{greeting: "421 later\r\n"})), check.Unknown,
			[]string{notKnown}},
		{"one host refused, one greeted with 421", "", binds(twoMX, mail(&refused, &mailHost{greeting: "421 later\r\n"})), check.Unknown,
			[]string{"it cannot be known whether mail gets through: some mail hosts did not get as far as TLS, and the others do not meet the domain's MTA-STS policy",
				"mx1.example.com: the certificate has expired on "}},
		{"one host good, one greeted with 421", "", binds(twoMX, mail(&mailHost{cert: good}, &mailHost{greeting: "421 later\r\n"})), check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", `1 of 2 mail hosts did not get as far as TLS; mx2.example.com: the greeting is "421 later", want 220`}},
		{"no STARTTLS", "", binds(oneMX, mail(&mailHost{offer: "250 mx\r\n"})), check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's MTA-STS policy", "the host does not offer STARTTLS", "the domain's administrator: offer STARTTLS; if it is offered elsewhere, somebody on the way takes it out, and an exception hands mail to them"}},
		{"DANE without STARTTLS", "", world{zones: signed + oneMX + tlsa1 + tlsa(good), mail: mail(&mailHost{offer: "250 mx\r\n"})}, check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's TLSA records", "somebody on the way takes it out"}},
		{"DANE of another key", "", world{zones: signed + oneMX + tlsa1 + usable, mail: mail(&mailHost{cert: good})}, check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's TLSA records", "the domain's administrator: publish the TLSA records of the certificates in use; until then, the exception below lets mail out"}},
		{"a certificate that has expired", "", binds(oneMX, mail(&refused)), check.Deferred,
			[]string{"mail is deferred: no mail host meets the domain's MTA-STS policy", "the certificate has expired on ", "repair the certificates"}},
		{"strangers that cannot be reached", "", world{zones: announced + oneMX, web: file(old), mail: mail()}, check.Deferred,
			[]string{"no mail host of the domain is in the MTA-STS policy"}},
		{"address that cannot be looked up", "", world{zones: announced + oneMX, web: file(enforce), mail: mail(), fault: fault("mx1.example.com", dnstest.Any, dnstest.ServFail)}, check.Unknown,
			[]string{"no mail can be delivered now: the addresses of the mail hosts cannot be looked up", "mx1.example.com: ", "SERVFAIL", "remedy   the failing lookup is below"}},
		{"one address that cannot be looked up, one host not reached", "", world{zones: announced + twoMX, web: file(enforce), mail: mail(), fault: fault("mx1.example.com", dnstest.Any, dnstest.ServFail)}, check.Unknown,
			[]string{notKnown, "mx1.example.com: ", "SERVFAIL"}},
		{"one host without address, one refused", "", binds(oneMX+"example.com. MX 5 mx2.example.com.\n", mail(&refused)), check.Deferred,
			[]string{"no mail host meets the domain's MTA-STS policy", "mx1.example.com: the certificate has expired on "}},
		{"more hosts than are looked at", "", binds(many(25), mail(&refused)), check.Unknown,
			[]string{"it cannot be known whether mail gets through: none of the 20 mail hosts that were looked at meets the domain's MTA-STS policy", "mx101.example.com: the certificate", "5 more mail hosts are not looked at", "repair the certificates"}},
		{"more hosts than are looked at, greeted with 421", "", binds(many(25), mail(&mailHost{greeting: "421 later\r\n"})), check.Unknown,
			[]string{"none of the 20 mail hosts that were looked at got as far as TLS", "5 more mail hosts are not looked at", theirs}},
		{"more hosts than are looked at, not reached", "", binds(many(25), mail()), check.Unknown,
			[]string{"none of the 20 mail hosts that were looked at got as far as TLS", "port 25 is closed here"}},
		{"no cipher but those without forward secrecy", "", binds(oneMX, mail(&mailHost{cert: ca.rsaLeaf("mx1.example.com"), max: tls.VersionTLS12, ciphers: []uint16{tls.TLS_RSA_WITH_AES_256_GCM_SHA384}})), check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}},
		{"TLS 1.1", "", binds(oneMX, mail(&mailHost{cert: good, max: tls.VersionTLS11})), check.Deferred,
			[]string{"no mail host meets the domain's MTA-STS policy", "the TLS handshake failed", "the domain's administrator: let the host speak TLS 1.2 or 1.3"}},
		{"TLS 1.1 and DANE", "", world{zones: signed + oneMX + tlsa1 + tlsa(good), mail: mail(&mailHost{cert: good, max: tls.VersionTLS11})}, check.Deferred,
			[]string{"no mail host meets the domain's TLSA records", "let the host speak TLS 1.2 or 1.3"}},
		{"text after STARTTLS", "", binds(oneMX, mail(&mailHost{cert: good, after: "220 go\r\n250 injected\r\n"})), check.Deferred,
			[]string{"the host sent more than its answer to STARTTLS", "the domain's administrator: let the host say nothing after its answer to STARTTLS; if it does not, somebody on the way puts it in"}},
		{"DANE, greeted with 421", "", world{zones: signed + oneMX + tlsa1 + tlsa(good), mail: mail(&mailHost{greeting: "421 later\r\n"})}, check.Unknown,
			[]string{notKnown, theirs}},
		{"nothing enforced, greeted with 421", "", world{zones: oneMX, mail: mail(&mailHost{greeting: "421 later\r\n"})}, check.Unauthenticated,
			[]string{"mail is not authenticated", `mail waits all the same: mx1.example.com: the greeting is "421 later", want 220`, theirs}},
		{"nothing enforced, no connection", "", world{zones: twoMX, mail: mail()}, check.Unauthenticated,
			[]string{"mail is not authenticated", "mail waits all the same: mx1.example.com: no connection: connection refused", "port 25 is closed here"}},
		{"nothing enforced, one host of two not reached", "", world{zones: twoMX, mail: mail(nil, &mailHost{cert: good})}, check.Unauthenticated,
			[]string{"no DANE for all of its mail hosts\n  because  MTA-STS record"}},
		{"nothing enforced, STARTTLS answered with 454", "", world{zones: oneMX, mail: mail(&mailHost{cert: good, after: "454 4.7.0 TLS not available\r\n"})}, check.Unauthenticated,
			[]string{"no DANE for all of its mail hosts\n  because  MTA-STS record"}},
	}
}

// published are kinds of domains by what they publish.
func published(ca *authority) []kind {
	c := certs(ca)
	return []kind{
		// Good ones.
		{"enforce", "", world{zones: announced + twoMX, web: file(enforce)}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS (mode enforce)", "the MX records are not signed, so DANE does not bind"}},
		{"enforce with a wildcard", "", world{zones: announced + twoMX, web: file(wildcard)}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}},
		{"enforce and no TLSA", "", world{zones: signed + announced + oneMX, web: file(enforce)}, check.Authenticated,
			[]string{"no MX host has DANE"}},
		{"DANE and enforce", "", world{zones: signed + announced + oneMX + tlsa1 + usable, web: file(enforce)}, check.Authenticated,
			[]string{"mail is authenticated by DANE, which goes before the domain's MTA-STS policy", "every MX host has DANE"}},
		{"DANE of the best hosts and enforce", "", world{zones: signed + announced + twoMX + tlsa1 + usable, web: file(enforce)}, check.Authenticated,
			[]string{"every MX host of the best preference has DANE"}},
		{"DANE of some hosts and enforce", "", world{zones: signed + announced + samePref + tlsa1 + usable, web: file(enforce)}, check.Authenticated,
			[]string{"by MTA-STS (mode enforce)", "not every MX host of the best preference has DANE"}},
		{"TLSA records that say nothing, and enforce", "", world{zones: signed + announced + oneMX + tlsa1 + unusable, web: file(enforce)}, check.Authenticated,
			[]string{"by MTA-STS (mode enforce)", "no TLSA record of any MX host is usable"}},
		{"DANE alone", "", world{zones: signed + oneMX + tlsa1 + usable}, check.Authenticated,
			[]string{"mail is authenticated by DANE, where Postfix's own level is dane"}},
		{"DANE alone where the record cannot be looked up", "", world{zones: signed + oneMX + tlsa1 + usable, fault: fault("_mta-sts.example.com", "TXT", dnstest.ServFail)}, check.Authenticated,
			[]string{"mail is authenticated by DANE"}},
		{"smart host in its policy", "[mx1.example.com]:587", world{zones: "_mta-sts.mx1.example.com. TXT \"v=STSv1; id=1\"\nmta-sts.mx1.example.com. A 198.41.0.4\n" + oneMX, web: file(onlyMX1)}, check.Authenticated,
			[]string{"[mx1.example.com]:587: mail is authenticated by MTA-STS"}},
		{"smart host with DANE at its port", "[mx1.example.com]:587", world{zones: signed + oneMX + "_587._tcp.mx1.example.com. TLSA " + usable}, check.Authenticated,
			[]string{"[mx1.example.com]:587: mail is authenticated by DANE"}},
		{"no MX records but an address", "mx1.example.com", world{zones: "_mta-sts.mx1.example.com. TXT \"v=STSv1; id=1\"\nmta-sts.mx1.example.com. A 198.41.0.4\nmx1.example.com. A 198.51.100.1\n", web: file(onlyMX1)}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS"}},

		// No policy to enforce.
		{"nothing at all", "", world{zones: oneMX}, check.Unauthenticated,
			[]string{"mail is not authenticated: the domain publishes no MTA-STS policy, and no DANE for all of its mail hosts", `no TXT record begins with "v=STSv1;"`}},
		{"testing", "", world{zones: announced + oneMX, web: file(testingP)}, check.Unauthenticated,
			[]string{"the domain's MTA-STS policy is in testing", "nothing to do here"}},
		{"none", "", world{zones: announced + oneMX, web: file(noneP)}, check.Unauthenticated,
			[]string{"the domain has given MTA-STS up (mode none)"}},
		{"DANE of some hosts alone", "", world{zones: signed + twoMX + tlsa1 + usable}, check.Unauthenticated,
			[]string{"no DANE for all of its mail hosts", "DANE: every MX host of the best preference has DANE"}},
		{"two records", "", world{zones: announced + "_mta-sts.example.com. TXT \"v=STSv1; id=2;\"\n" + oneMX, web: file(enforce)}, check.Unauthenticated,
			[]string{"the MTA-STS record of the domain is not valid", "more than one TXT record", "exactly one TXT record at _mta-sts.example.com"}},
		{"a record with a bad id", "", world{zones: "_mta-sts.example.com. TXT \"v=STSv1; id=2026-01-01;\"\n" + oneMX}, check.Unauthenticated,
			[]string{"the MTA-STS record of the domain is not valid", "2026-01-01"}},
		{"another record in its place", "", world{zones: "_mta-sts.example.com. TXT \"v=spf1 -all\"\n" + oneMX}, check.Unauthenticated,
			[]string{"publishes no MTA-STS policy", "v=spf1"}},

		// Policies that cannot be fetched.
		{"no policy host", "", world{zones: "_mta-sts.example.com. TXT \"v=STSv1; id=1;\"\n" + oneMX}, check.Unauthenticated,
			[]string{"announces an MTA-STS policy that cannot be used", "mta-sts.example.com has no address", "publish an address for mta-sts.example.com"}},
		{"a policy host that cannot be looked up", "", world{zones: announced + oneMX, fault: fault("mta-sts.example.com", dnstest.Any, dnstest.ServFail)}, check.Unauthenticated,
			[]string{"looking up the address of mta-sts.example.com", "SERVFAIL", "remedy   the failing lookup is below"}},
		{"a private address", "", world{zones: "_mta-sts.example.com. TXT \"v=STSv1; id=1;\"\nmta-sts.example.com. A 10.0.0.1\n" + oneMX}, check.Unauthenticated,
			[]string{"10.0.0.1 is private use (RFC 1918)", "give mta-sts.example.com a public address"}},
		{"connection refused", "", world{zones: announced + oneMX}, check.Unauthenticated,
			[]string{"connecting to 198.41.0.4:443: connection refused", "let a web server answer at port 443 of mta-sts.example.com"}},
		{"an expired certificate", "", world{zones: announced + oneMX, web: file(enforce), cert: c["expired"]}, check.Unauthenticated,
			[]string{"certificate is valid from", "give mta-sts.example.com a certificate"}},
		{"a certificate of another name", "", world{zones: announced + oneMX, web: file(enforce), cert: c["other"]}, check.Unauthenticated,
			[]string{"certificate is for www.example.com, want mta-sts.example.com"}},
		{"a certificate of nobody", "", world{zones: announced + oneMX, web: file(enforce), cert: c["alone"]}, check.Unauthenticated,
			[]string{"is not signed by a known authority"}},
		{"a common name only", "", world{zones: announced + oneMX, web: file(enforce), cert: c["nameless"]}, check.Unauthenticated,
			[]string{"certificate is for no DNS name"}},
		{"not found", "", world{zones: announced + oneMX, web: status(404, "no")}, check.Unauthenticated,
			[]string{"HTTP status 404, want 200", "serve the file at https://mta-sts.example.com/.well-known/mta-sts.txt itself"}},
		{"a redirect", "", world{zones: announced + oneMX, web: status(301, "", "Location", "https://www.example.com/")}, check.Unauthenticated,
			[]string{"HTTP status 301, want 200 (redirects are not followed)"}},
		{"HTML", "", world{zones: announced + oneMX, web: file("<html>", "Content-Type", "text/html")}, check.Unauthenticated,
			[]string{`media type "text/html", want text/plain`, "serve the file on mta-sts.example.com as text/plain"}},
		{"compressed", "", world{zones: announced + oneMX, web: file(enforce, "Content-Encoding", "gzip")}, check.Unauthenticated,
			[]string{`content encoding "gzip", want none`}},
		{"too large", "", world{zones: announced + oneMX, web: file(strings.Repeat("x: y\n", 20000))}, check.Unauthenticated,
			[]string{"policy is larger than 65536 bytes", "wildcards need few lines"}},
		{"too slow", "", world{zones: announced + oneMX, web: http.HandlerFunc(hang)}, check.Unauthenticated,
			[]string{"time-out while waiting for the answer of mta-sts.example.com", "answer sooner"}},
		{"a bad mode", "", world{zones: announced + oneMX, web: file("version: STSv1\nmode: Enforce\nmx: mx1.example.com\nmax_age: 1\n")}, check.Unauthenticated,
			[]string{"line 2", "the domain's administrator: mode: enforce"}},
		{"a policy without mx", "", world{zones: announced + oneMX, web: file("version: STSv1\nmode: enforce\nmax_age: 86400\n")}, check.Unauthenticated,
			[]string{"mx: there is no such line, and a policy needs it", "mx: mail.example.com"}},
		{"an empty policy", "", world{zones: announced + oneMX, web: file("")}, check.Unauthenticated,
			[]string{"the file is empty"}},
		{"a web page as text", "", world{zones: announced + oneMX, web: file("<!doctype html>")}, check.Unauthenticated,
			[]string{"the file looks like a web page"}},

		// What cannot be known.
		{"SERVFAIL for the record", "", world{zones: oneMX, fault: fault("_mta-sts.example.com", "TXT", dnstest.ServFail)}, check.Unknown,
			[]string{"it cannot be known whether the domain has an MTA-STS policy", "SERVFAIL"}},
		{"REFUSED for the record", "", world{zones: oneMX, fault: fault("_mta-sts.example.com", "TXT", dnstest.Refused)}, check.Unknown,
			[]string{"it cannot be known whether the domain has an MTA-STS policy", "REFUSED"}},
		{"no answer for the record", "", world{zones: oneMX, fault: fault("_mta-sts.example.com", "TXT", dnstest.Drop)}, check.Unknown,
			[]string{"it cannot be known whether the domain has an MTA-STS policy"}},
		{"no DNS at all", "", world{zones: oneMX, fault: fault(dnstest.Any, dnstest.Any, dnstest.Drop)}, check.Unknown,
			[]string{"the mail hosts cannot be looked up", "no DNS server answers: look at /etc/resolv.conf"}},
		{"enforce, and the MX lookup fails", "", world{zones: signed + announced + oneMX, web: file(enforce), fault: fault("example.com", "MX", dnstest.ServFail)}, check.Unknown,
			[]string{"mail waits: the domain enforces MTA-STS, and it cannot be known whether DANE goes before it", "the MX lookup failed", "dig +cd"}},
		{"enforce, and the TLSA lookup fails", "", world{zones: signed + announced + oneMX, web: file(enforce), fault: fault("_25._tcp.mx1.example.com", "TLSA", dnstest.ServFail)}, check.Unknown,
			[]string{"mail waits", "the DANE lookup of an MX host failed", "_25._tcp.mx1.example.com"}},
		{"no policy, and the TLSA lookup fails", "", world{zones: signed + oneMX, fault: fault("_25._tcp.mx1.example.com", "TLSA", dnstest.ServFail)}, check.Unknown,
			[]string{"no MTA-STS policy is enforced, and it cannot be known whether the mail hosts have DANE"}},

		// What keeps mail back.
		{"no host in the policy", "", world{zones: announced + oneMX, web: file(old)}, check.Deferred,
			[]string{"mail is deferred: no mail host of the domain is in the MTA-STS policy that it enforces", "the policy allows old.example.net; the mail hosts are mx1.example.com", "bring the mx lines of the policy up to date"}},
		{"one host not in the policy", "", world{zones: announced + twoMX, web: file(onlyMX1)}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "not in the policy, so no mail goes there: mx2.example.com", "add an mx line"}},
		{"smart host not in its policy", "[mx1.example.com]", world{zones: "_mta-sts.mx1.example.com. TXT \"v=STSv1; id=1\"\nmta-sts.mx1.example.com. A 198.41.0.4\n" + oneMX, web: file(old)}, check.Deferred,
			[]string{"mail is deferred", "the policy allows old.example.net"}},
		{"no such domain", "", world{zones: ""}, check.Undeliverable, []string{"no mail can be delivered: there is no such domain", "remedy   look at the spelling"}},
		{"null MX", "", world{zones: "example.com. MX 0 ."}, check.Undeliverable, []string{"the domain takes none (null MX, RFC 7505)"}},
		{"no such smart host", "[mx9.example.com]:587", world{zones: oneMX}, check.Undeliverable, []string{"no mail can be delivered: the smart host has no address", "remedy   look at its spelling"}},
		{"hosts without addresses", "", world{zones: "example.com. MX 10 mx1.example.com."}, check.Undeliverable, []string{"no mail host of the domain has an address", "the mail hosts are mx1.example.com", "the domain's administrator: publish an address for a mail host"}},

		// This machine.
		{"a server that does not validate", "", world{zones: "$INSECURE .\n" + announced + oneMX, web: file(enforce)}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "DANE is off: DNS server", "it does not validate"}},
		{"DANE turned off", "", world{zones: signed + announced + oneMX + tlsa1 + usable, web: file(enforce), noDANE: true}, check.Authenticated,
			[]string{"mail is authenticated by MTA-STS", "DANE is not looked at"}},
	}
}
