package check

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// dialogue is SMTP before TLS.
type dialogue struct {
	conn net.Conn
	in   *bufio.Reader
}

// startTLS asks for STARTTLS (RFC 3207, section 4).
func (d *dialogue) startTLS(name string, probe *Probe) error {
	if _, err := d.reply("the greeting", 220); err != nil {
		return err
	}
	lines, err := d.hello(name)
	if err != nil {
		return err
	}
	for _, line := range lines[1:] {
		word, _, _ := strings.Cut(line, " ")
		probe.STARTTLS = probe.STARTTLS || strings.EqualFold(word, "STARTTLS")
	}
	if !probe.STARTTLS {
		return ErrNoSTARTTLS
	}
	if _, err := d.ask("STARTTLS", 220); err != nil {
		if errors.Is(err, ErrTurnedAway) {
			return &earlyEnd{ErrNotBegun, errors.New(err.Error())}
		}
		return err
	}
	if d.in.Buffered() > 0 {
		return ErrInjected
	}
	return nil
}

// hello greets the host, and returns the reply to EHLO. As Postfix does, HELO
// follows where EHLO is refused, unless by 421; with it there is no STARTTLS.
func (d *dialogue) hello(name string) ([]string, error) {
	lines, err := d.ask("EHLO "+name, 250)
	refused, ok := errors.AsType[*refusal](err)
	if !ok || refused.code == closing {
		return lines, err
	}
	if _, err := d.ask("HELO "+name, 250); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", ErrNoSTARTTLS, refused)
}

// closing is the code of a host that ends the talk (RFC 5321, section 3.8).
const closing = 421

// ask sends a command, and returns the reply.
func (d *dialogue) ask(command string, want int) ([]string, error) {
	if _, err := io.WriteString(d.conn, command+"\r\n"); err != nil {
		return nil, &earlyEnd{ErrLost, fmt.Errorf("sending %s: %w", command, err)}
	}
	verb, _, _ := strings.Cut(command, " ")
	return d.reply("the answer to "+verb, want)
}

// refusal is a reply that is not the one that is wanted. Its code is 0 if it has
// none.
type refusal struct {
	what, line string
	code, want int
}

// Error shows its first line.
func (r *refusal) Error() string {
	return fmt.Sprintf("%s is %q, want %d", r.what, r.line[:min(120, len(r.line))], r.want)
}

// reply reads a reply of one or several lines (RFC 5321, section 4.2). Of a code
// the first digit counts.
func (d *dialogue) reply(what string, want int) ([]string, error) {
	var lines []string
	var refused *refusal
	for more := true; more; {
		line, err := d.in.ReadString('\n')
		if err != nil && refused == nil {
			return nil, lost(what, err)
		}
		if err != nil {
			break
		}
		line = strings.TrimRight(line, "\r\n")
		code, _ := strconv.Atoi(line[:min(3, len(line))])
		if code/100 != want/100 && refused == nil {
			refused = &refusal{what, line, code, want}
		}
		lines = append(lines, strings.TrimLeft(line[min(3, len(line)):], " -"))
		more = len(line) > 3 && line[3] == '-'
	}
	if refused != nil {
		return nil, &earlyEnd{ErrTurnedAway, refused}
	}
	return lines, nil
}

// lost says that a reply did not come.
func lost(what string, err error) error {
	if errors.Is(err, io.EOF) {
		return &earlyEnd{ErrLost, fmt.Errorf("the host hung up before %s", what)}
	}
	return &earlyEnd{ErrLost, fmt.Errorf("reading %s: %w", what, err)}
}
