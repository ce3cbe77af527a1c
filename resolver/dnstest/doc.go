// Package dnstest is a recursive DNS server for tests, with the world's zones
// given as text. [Server] answers over UDP and TCP on a socket, [Resolver]
// answers in memory, so that it can be used in a bubble of testing/synctest;
// both give the same answers, with the same faults, from their [Zones].
//
//	srv := dnstest.Start(t, `
//		$SECURE example.com
//		$ORIGIN example.com.
//		@          SOA ns.example.com. root.example.com. 1 60 60 60 30
//		_mta-sts   TXT "v=STSv1; id=1;"
//		www        CNAME host.example.net.
//	`)
//	srv.Fault("example.com", "MX", dnstest.ServFail)
//	client, err := dnsclient.New(dnsclient.Options{Servers: []string{srv.Addr()}})
//
// The text has the syntax of a zone file (RFC 1035, section 5.1), with all
// zones in one. The origin is the root and the TTL 300 until the text says
// otherwise; indentation is dropped, so a record always begins with its owner
// name. Two lines are an addition:
//
//	$SECURE name…     ; what is at or below the names is signed
//	$INSECURE name…   ; what is at or below these is not
//
// The longest name wins; nothing is signed by default but the root, which has
// an NS record, so that the server is one that validates. "$INSECURE ." makes
// it one that does not. An answer has the AD
// bit if everything that it was made from is signed. A SOA record makes a
// zone; denials carry the SOA of the zone they are from, or one of the root
// with a TTL and MINIMUM of 60 s where the text has none. Wildcards match,
// empty non-terminals exist, and aliases are followed as far as they lead.
//
// It is no DNS server for anything else: no delegations, no signatures, no
// DNAME, no zone transfers.
package dnstest
