package mtasts

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// checkProxy says why policies cannot be fetched through u; nil is no proxy.
func checkProxy(u *url.URL) error {
	if u == nil {
		return nil
	}
	if u.Scheme != "http" || u.Hostname() == "" {
		return fmt.Errorf("not a proxy of the form http://host:port: %q", u.Redacted())
	}
	return nil
}

// ProxyTarget begins what [Trace.Connected] is told of a proxy, before its address.
const ProxyTarget = "the proxy "

// connectProxy asks the proxy for a connection to the host, by name. What
// comes through it is not believed more than what comes without: TLS is with
// the host.
func (t *transfer) connectProxy(ctx context.Context) (net.Conn, *fetchError) {
	doing := "connecting to the proxy " + t.proxy.Host
	port := t.proxy.Port()
	if port == "" {
		port = "80"
	}
	started := time.Now()
	conn, err := t.dial(ctx, "tcp", net.JoinHostPort(t.proxy.Hostname(), port))
	traceOf(ctx).connected(ProxyTarget+t.proxy.Host, started, err)
	if err != nil {
		return nil, failure(resultConnect, doing, err)
	}
	interrupted := context.AfterFunc(ctx, func() { _ = conn.Close() }) // tunnel reports it
	failed := t.tunnel(conn)
	if !interrupted() && failed == nil {
		failed = failure(resultConnect, doing, ctx.Err())
	}
	if failed != nil {
		_ = conn.Close() // the reason is known
		return nil, failed
	}
	return conn, nil
}

// tunnel makes conn a connection to the host (RFC 9110, section 9.3.6).
func (t *transfer) tunnel(conn net.Conn) *fetchError {
	doing := "asking the proxy " + t.proxy.Host
	target := net.JoinHostPort(t.host, strconv.Itoa(httpsPort))
	req := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: target},
		Host:   target,
		Header: http.Header{"User-Agent": {t.userAgent}},
	}
	if user := t.proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
	if err := req.Write(conn); err != nil {
		return failure(resultConnect, doing, err)
	}
	limited := &headReader{r: conn, left: maxHeader}
	br := bufio.NewReader(limited)
	resp, failed := readHead(br, limited, req) //nolint:bodyclose // The body is the tunnel.
	switch {
	case failed != nil:
		return failure(resultConnect, doing, errors.New(failed.reason))
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return failure(resultConnect, doing, fmt.Errorf("HTTP status %d, want 200", resp.StatusCode))
	case br.Buffered() > 0:
		return failure(resultConnect, doing, errors.New("it sent more than an answer"))
	}
	return nil
}
