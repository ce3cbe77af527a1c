//go:build e2e

package check_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"tlspolicyd/test/lab"
)

// early is a mail host that ends the talk before TLS: what it says to those who
// connect, to EHLO and to everything else. Without a greeting nobody listens.
type early struct {
	name, greeting, ehlo, other string
	// says is in what check shows.
	says string
	// refused says that this is an answer that no policy is content with.
	refused bool
}

func earlyEnds() []early {
	const offer = "250-mx\r\n250 STARTTLS\r\n"
	return []early{
		{name: "no connection", says: "connection refused"},
		{name: "421", greeting: "421 too many connections\r\n", says: `the greeting is "421 too many connections"`},
		{name: "554", greeting: "554 blocked\r\n", says: `the greeting is "554 blocked"`},
		{name: "EHLO refused", greeting: "220 mx\r\n", ehlo: "550 who are you\r\n", other: "421 go away\r\n", says: `the answer to HELO is "421 go away"`},
		{name: "EHLO refused, HELO not", greeting: "220 mx\r\n", ehlo: "550 who are you\r\n", other: "250 mx\r\n", says: "the host does not offer STARTTLS", refused: true},
		{name: "EHLO put off, HELO not", greeting: "220 mx\r\n", ehlo: "450 who are you\r\n", other: "250 mx\r\n", says: "the host does not offer STARTTLS", refused: true},
		{name: "EHLO answered with 421", greeting: "220 mx\r\n", ehlo: "421 later\r\n", other: "250 mx\r\n", says: `the answer to EHLO is "421 later"`},
		{name: "454", greeting: "220 mx\r\n", ehlo: offer, other: "454 TLS not available\r\n", says: `the answer to STARTTLS is "454 TLS not available"`},
		{name: "hung up on", greeting: "220 mx\r\n", ehlo: offer, says: "the host hung up before the answer to STARTTLS"},
		{name: "no TLS after STARTTLS", greeting: "220 mx\r\n", ehlo: offer, other: "220 go\r\nHTTP/1.0 400 no\r\n", says: "the host sent more than its answer to STARTTLS", refused: true},
	}
}

// start starts the host and returns its address.
func (e early) start(t *testing.T, l *lab.Lab) string {
	t.Helper()
	addr := l.Address()
	if e.greeting == "" {
		return addr
	}
	listener, err := net.Listen("tcp", addr+":25")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener was closed
			}
			open.Go(func() {
				defer conn.Close()
				e.talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Wait()
	})
	return addr
}

// talk speaks until the client is gone, or there is nothing to say.
func (e early) talk(conn net.Conn) {
	in := bufio.NewReader(conn)
	for say := e.greeting; say != ""; {
		if _, err := io.WriteString(conn, say); err != nil {
			return
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		say = e.other
		if strings.HasPrefix(line, "EHLO") {
			say = e.ehlo
		}
	}
}

// What is not known of a host is no refusal, and Postfix gets no mail through
// either; what is tampered with is one.
func TestHostsThatEndTheTalkBeforeTLS(t *testing.T) {
	l := lab.New(t)
	l.StartDaemon(t, lab.DaemonOptions{})
	ask := newCommand(t, l)
	relay := l.StartPostfix(t, lab.PostfixOptions{Release: lab.Next(), Level: "dane", Map: "policy-tlsrpt"})
	for i, e := range earlyEnds() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			domain := publish(t, l, scene{policy: exact}, "early"+string(rune('a'+i)))
			l.Zones.Set(t, "mx."+domain+". 60 A "+e.start(t, l))
			said := ask(t, domain)
			outcome, code := "unknown", 2
			if e.refused {
				outcome, code = "deferred", 1
			}
			p := said.Hosts[0].SMTP
			if said.Outcome != outcome || said.code != code || p.Delivers || p.Unknown != (outcome == "unknown") || !strings.Contains(p.Error, e.says) {
				t.Errorf("check exits with %d and says %+v", said.code, said)
			}
			if d := relay.Send(t, "user@"+domain); d.Status == "sent" {
				t.Errorf("Postfix delivers: %s; check says %+v", d.Line, said)
			}
		})
	}
}
