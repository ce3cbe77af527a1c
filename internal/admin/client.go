package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a client may be told.
var (
	// ErrUnreachable: nobody answers on the socket, or may be asked.
	ErrUnreachable = errors.New("the daemon cannot be asked")
	// ErrNotKnown: the daemon knows nothing of the domain.
	ErrNotKnown = errors.New("not known")
	// ErrRefused: the daemon could not do what it was asked for.
	ErrRefused = errors.New("the daemon could not do it")
)

const (
	// maxReply is the size of the longest answer.
	maxReply = 16 << 20
	// patience is how long to wait for an answer, and connectTime for a
	// connection.
	patience    = 20 * time.Second
	connectTime = 5 * time.Second
)

// Client asks a daemon through its socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client for the socket at path. It connects when it is
// first used.
func NewClient(path string) *Client {
	dialer := &net.Dialer{Timeout: connectTime}
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
			DisableCompression: true,
			MaxIdleConns:       1,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the connection to the daemon.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the daemon is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, http.MethodGet, patience, "status")
}

// Stats asks how much it remembers.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	return ask[Stats](ctx, c, http.MethodGet, patience, "stats")
}

// List asks for the page of domains after one; empty stands for the first page.
func (c *Client) List(ctx context.Context, after string) (Page, error) {
	query := url.Values{"limit": {strconv.Itoa(maxPage)}}
	if after != "" {
		query.Set("after", after)
	}
	return ask[Page](ctx, c, http.MethodGet, patience, "domains?"+query.Encode())
}

// Show asks for all that is known of a domain. The error wraps ErrNotKnown if
// that is nothing.
func (c *Client) Show(ctx context.Context, domain string) (Domain, error) {
	return ask[Domain](ctx, c, http.MethodGet, patience, "domains/"+url.PathEscape(domain))
}

// Refresh has the policy of a domain fetched now.
func (c *Client) Refresh(ctx context.Context, domain string) (Refreshed, error) {
	return ask[Refreshed](ctx, c, http.MethodPost, refreshTime, "domains/"+url.PathEscape(domain)+"/refresh")
}

// Purge has a domain forgotten. The error wraps ErrNotKnown if there is nothing
// to forget.
func (c *Client) Purge(ctx context.Context, domain string) (Purged, error) {
	return ask[Purged](ctx, c, http.MethodDelete, patience, "domains/"+url.PathEscape(domain))
}

// PurgeAll has all domains forgotten.
func (c *Client) PurgeAll(ctx context.Context) (Purged, error) {
	return ask[Purged](ctx, c, http.MethodDelete, purgeAllTime, "domains")
}

// ask sends a request and reads the object that comes back.
func ask[T any](ctx context.Context, c *Client, method string, limit time.Duration, page string) (T, error) {
	var v T
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// A name is needed, and is not looked up.
	req, err := http.NewRequestWithContext(ctx, method, "http://tlspolicyd/v1/"+page, http.NoBody)
	if err != nil {
		return v, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return v, fmt.Errorf("%w: asking at %q: %w", ErrUnreachable, c.path, cause(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return v, fmt.Errorf("%w: reading the answer from %q: %w", ErrUnreachable, c.path, err)
	case len(text) > maxReply:
		return v, fmt.Errorf("%w: the answer from %q is longer than %d bytes", ErrUnreachable, c.path, maxReply)
	case resp.StatusCode != http.StatusOK:
		return v, refusal(c.path, resp, text)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("%w: what answers at %q is no daemon of this kind: %w", ErrUnreachable, c.path, err)
	}
	return v, nil
}

// cause returns the error of a request without the URL, which means nothing.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// refusal makes the error of an answer that is none.
func refusal(path string, resp *http.Response, text []byte) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p problem
	if kind == "application/json" && json.Unmarshal(text, &p) == nil && p.Error != "" {
		if p.NotKnown {
			return fmt.Errorf("%w: %s", ErrNotKnown, p.Error)
		}
		return fmt.Errorf("%w: %s", ErrRefused, p.Error)
	}
	const enough = 200
	first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%w: %q answers %s: %q", ErrUnreachable, path, resp.Status, first[:min(len(first), enough)])
}
