package mtasts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxHeader is how many bytes of headers a host may send, interim
	// answers included.
	maxHeader = 16 << 10
	// maxInterim is how many interim answers (1xx) it may send.
	maxInterim = 5
)

// get asks for the policy on a connection of its own. No cookie, nothing of
// earlier answers goes with it: RFC 8461, section 3.3, forbids HTTP caching.
func (t *transfer) get(ctx context.Context, rw io.ReadWriter, tcp *eofConn) (string, *fetchError) {
	t.doing = "waiting for the answer of " + t.host
	started := time.Now()
	req := t.request()
	if err := req.Write(rw); err != nil {
		return "", failure(resultConnect, "sending the request to "+t.host, err)
	}
	limited := &headReader{r: rw, left: maxHeader}
	resp, err := readHead(bufio.NewReader(limited), limited, req) //nolint:bodyclose // See readBody.
	if err != nil {
		return "", err
	}
	traceOf(ctx).answered(resp.StatusCode, resp.Header.Get("Content-Type"), started)
	if err := checkHead(resp); err != nil {
		return "", err
	}
	limited.left = unlimited
	t.doing = "reading the policy of " + t.host
	return readBody(resp, limited, tcp)
}

func (t *transfer) request() *http.Request {
	return &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: t.host, Path: PolicyPath},
		Host:   t.host,
		Header: http.Header{
			"User-Agent":      {t.userAgent},
			"Accept":          {"text/plain"},
			"Accept-Encoding": {"identity"},
		},
		Close: true,
	}
}

// readHead reads the status and the headers of the final answer to req.
func readHead(br *bufio.Reader, limited *headReader, req *http.Request) (*http.Response, *fetchError) {
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			return nil, headError(limited, err)
		}
		if resp.ProtoMajor != 1 {
			return nil, &fetchError{result: resultStatus, reason: oneLine("an answer in " + resp.Proto + ", want HTTP/1.1")}
		}
		// RFC 9110, section 15.2: any number of interim answers may precede
		// the final one; 101 is a final one, and never asked for.
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, &fetchError{result: resultStatus, reason: fmt.Sprintf("more than %d interim answers", maxInterim)}
}

// headError says why there is no answer.
func headError(limited *headReader, err error) *fetchError {
	switch {
	case limited.left == 0:
		return &fetchError{result: resultSize, reason: fmt.Sprintf("headers are larger than %d bytes", maxHeader)}
	case ended(err):
		return &fetchError{result: resultConnect, reason: "the connection ended before the answer did", err: err}
	case limited.broke(err):
		return failure(brokenResult(err), "waiting for the answer", err)
	default:
		return failure(resultStatus, "not an answer in HTTP", err)
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// brokenResult is the class of an error of the connection. With TLS 1.3 a host
// may refuse the handshake after it has ended on our side.
func brokenResult(err error) string {
	var alert *net.OpError
	if errors.As(err, &alert) && alert.Op == "remote error" {
		return resultTLS
	}
	return resultConnect
}

// checkHead refuses every answer whose body is not the policy as it is.
func checkHead(resp *http.Response) *fetchError {
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		// RFC 8461, section 3.3: no redirects.
		return &fetchError{result: resultStatus,
			reason: fmt.Sprintf("HTTP status %d, want 200 (redirects are not followed)", resp.StatusCode)}
	case resp.StatusCode != http.StatusOK:
		return &fetchError{result: resultStatus, reason: fmt.Sprintf("HTTP status %d, want 200", resp.StatusCode)}
	case resp.ContentLength > maxPolicySize:
		return &fetchError{result: resultSize,
			reason: fmt.Sprintf("policy is of %d bytes, at most %d are allowed", resp.ContentLength, maxPolicySize)}
	}
	if err := checkType(resp.Header.Values("Content-Type")); err != nil {
		return err
	}
	return checkEncoding(resp.Header.Values("Content-Encoding"))
}

// checkType wants text/plain, with any parameters.
// RFC 8461, section 3.2: other parameters than a charset of UTF-8 or US-ASCII
// are ignored.
func checkType(values []string) *fetchError {
	if len(values) == 0 {
		return &fetchError{result: resultType, reason: "no media type, want text/plain"}
	}
	for _, v := range values {
		mediaType, _, _ := strings.Cut(v, ";")
		if mediaType = strings.Trim(mediaType, " \t"); !strings.EqualFold(mediaType, "text/plain") {
			return &fetchError{result: resultType, reason: oneLine(fmt.Sprintf("media type %q, want text/plain", mediaType))}
		}
	}
	return nil
}

// checkEncoding wants a body without compression.
func checkEncoding(values []string) *fetchError {
	for _, v := range values {
		if v != "" && !strings.EqualFold(v, "identity") {
			return &fetchError{result: resultType, reason: oneLine(fmt.Sprintf("content encoding %q, want none", v))}
		}
	}
	return nil
}

// readBody reads the policy, all of it or nothing. The body is not closed:
// that would read it to its end, and the connection is closed anyway.
func readBody(resp *http.Response, limited *headReader, tcp *eofConn) (string, *fetchError) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicySize+1))
	switch {
	case len(body) > maxPolicySize:
		return "", &fetchError{result: resultSize, reason: fmt.Sprintf("policy is larger than %d bytes", maxPolicySize)}
	case err != nil && ended(err):
		return "", &fetchError{result: resultConnect, reason: "the connection ended before the policy did", err: err}
	case err != nil && limited.broke(err):
		return "", failure(brokenResult(err), "reading the policy", err)
	case err != nil:
		return "", failure(resultStatus, "not a body in HTTP", err)
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && tcp.ended.Load():
		// RFC 9112, section 9.8: a body without a length is complete only if
		// TLS was closed too. Anybody can close the TCP connection.
		return "", &fetchError{result: resultConnect,
			reason: "the connection ended without the end of TLS, so the policy may be incomplete"}
	}
	return string(body), nil
}

// unlimited is the limit of a body: none here, since the body has its own.
const unlimited = -1

// headReader reads at most left bytes while left is not unlimited.
type headReader struct {
	r    io.Reader
	left int
	// err is what the connection said last.
	err error
}

// Read reads from the connection. At the limit it says [io.EOF].
func (h *headReader) Read(p []byte) (int, error) {
	if h.left == 0 {
		return 0, io.EOF
	}
	if h.left > 0 && len(p) > h.left {
		p = p[:h.left]
	}
	n, err := h.r.Read(p)
	if h.left > 0 {
		h.left -= n
	}
	if err != nil {
		h.err = err
	}
	return n, err
}

// broke reports whether err is what the connection said last.
func (h *headReader) broke(err error) bool {
	return h.err != nil && errors.Is(err, h.err)
}
