package mtasts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// canned is a connection on which everything that the host will ever send is
// there already.
type canned struct {
	net.Conn
	rest io.Reader
	sent bytes.Buffer
}

func (c *canned) Read(p []byte) (int, error)  { return c.rest.Read(p) }
func (c *canned) Write(p []byte) (int, error) { return c.sent.Write(p) }
func (c *canned) Close() error                { return nil }
func (c *canned) SetDeadline(time.Time) error { return nil }

// FuzzAnswer reads any bytes as the answer of a policy host.
func FuzzAnswer(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for _, s := range []string{
		"", head, head + "\r\n" + goodPolicy, head + "Content-Length: 5\r\n\r\nhello",
		head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
		head + "Content-Encoding: gzip\r\n\r\n\x1f\x8b", "HTTP/1.0 404 Not Found\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\n" + head + "\r\nx", "HTTP/1.1 200 OK\r\nContent-Type:\r\n\r\n", "220 hello\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, failed := readCanned(bytes.NewReader(b))
		slow, slowFailed := readCanned(oneByte{bytes.NewReader(b)})
		if text != slow || (failed == nil) != (slowFailed == nil) {
			t.Errorf("byte by byte: got %q and %v, want %q and %v", slow, slowFailed, text, failed)
		}
		if failed == nil {
			if len(text) > maxPolicySize || !bytes.HasPrefix(b, []byte("HTTP/1.")) {
				t.Errorf("%d bytes are taken for a policy", len(text))
			}
			return
		}
		results := []string{resultConnect, resultStatus, resultType, resultSize}
		if text != "" || !slices.Contains(results, failed.result) {
			t.Errorf("got %q and %v", text, failed)
		}
		checkReason(t, failed.reason, "")
	})
}

func readCanned(r io.Reader) (string, *fetchError) {
	t := transfer{fetcher: &fetcher{userAgent: "test"}, host: "mta-sts.example.com"}
	conn := &canned{rest: r}
	return t.get(context.Background(), conn, &eofConn{Conn: conn})
}

// oneByte gives one byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// FuzzOneLine makes any text fit for a log.
func FuzzOneLine(f *testing.F) {
	for _, s := range []string{"", "plain", "a\nb", "\x1b[31m", "ü", strings.Repeat("\x00", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := oneLine(s)
		if len(got) > maxReason || printable(got) != len(got) || (got == "") != (s == "") {
			t.Errorf("got %q", got)
		}
		if failed := failure(resultTLS, "doing", errors.New(s)); failed.reason == "" {
			t.Errorf("no reason")
		}
	})
}
