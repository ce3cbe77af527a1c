package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/internal/admin"
	"tlspolicyd/resolver/policy"
)

// daemon is a fake of everything that the server asks. Domains are known by
// their records.
type daemon struct {
	views   map[string]cache.View
	renewal cache.Renewal
	sts     policy.STS
	records []cache.Record
	err     error
	purged  []string
	// hang makes a refresh wait for the end of its context.
	hang bool
}

func (d *daemon) Inspect(_ context.Context, domain policy.Domain) cache.View {
	v := d.views[domain.String()]
	v.Domain = domain
	return v
}

func (d *daemon) Refresh(ctx context.Context, _ policy.Domain) (cache.Renewal, policy.STS, error) {
	if d.hang {
		<-ctx.Done()
		return 0, policy.STS{}, ctx.Err()
	}
	return d.renewal, d.sts, d.err
}

func (d *daemon) Purge(_ context.Context, domain policy.Domain) (bool, error) {
	d.purged = append(d.purged, domain.String())
	_, known := d.views[domain.String()]
	return known, d.err
}

func (d *daemon) PurgeAll(context.Context) (int, error) { return len(d.records), d.err }

func (d *daemon) Scan(_ context.Context, after policy.Domain, n int) ([]cache.Record, error) {
	var page []cache.Record
	for _, r := range d.records {
		if r.Domain.String() > after.String() && len(page) < n {
			page = append(page, r)
		}
	}
	return page, d.err
}

func (d *daemon) StoreStats(context.Context) (admin.StoreStats, error) {
	return admin.StoreStats{Kind: "file", Path: "/p.db", Policies: 2, Limit: 100}, d.err
}

func parse(text string) (*policy.STSPolicy, error) {
	if text != "enforce" {
		return nil, errors.New("no policy")
	}
	return &policy.STSPolicy{Mode: policy.ModeEnforce, MaxAge: time.Hour, Text: text}, nil
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 999, time.UTC)

func (d *daemon) status() admin.Status {
	return admin.Status{Version: "1.2.3", Started: noon, Now: noon, Listeners: []string{"127.0.0.1:8461"},
		Stats: admin.Stats{Policies: 3, Overdue: 4}}
}

// serve starts a server for d and returns the path of its socket.
func serve(t *testing.T, d *daemon) string {
	t.Helper()
	s, err := admin.New(admin.Options{Cache: d, Store: d, Parse: parse, Status: d.status,
		Pages: func(mux *http.ServeMux) {
			mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
		}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func dom(t *testing.T, name string) policy.Domain {
	t.Helper()
	d, err := policy.ParseDomain(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func record(t *testing.T, name, text string) cache.Record {
	t.Helper()
	r := cache.Record{Domain: dom(t, name), Text: text, LastUse: noon}
	if text == "" {
		r.Failure = policy.Failure{ID: "1", At: noon, Count: 1, Kind: "status", Reason: "404"}
		return r
	}
	r.ID, r.Fetched, r.Expires = "1", noon, noon.Add(time.Hour)
	return r
}

// request sends a request as it is, and returns the status and the body.
func request(t *testing.T, path, text string) (int, string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPages(t *testing.T) {
	d := &daemon{views: map[string]cache.View{"example.com": {Source: cache.SourceStore}}}
	path := serve(t, d)
	for _, test := range []struct {
		request string
		status  int
		want    string
	}{
		{"GET /v1/status", 200, `"version":"1.2.3"`},
		{"GET /v1/stats", 200, `"overdue":4`},
		{"GET /v1/domains", 200, `{"domains":[]}`},
		{"GET /v1/domains/EXAMPLE.com.", 200, `"domain":"example.com"`},
		{"GET /metrics", 200, `metrics`},
		{"GET /v1/domains/other.example", 404, `{"error":"nothing is known of other.example","not_known":true}`},
		{"DELETE /v1/domains/other.example", 404, `"not_known":true`},
		{"GET /v1/domains/localhost", 400, `{"error":"a name that no mail host can have: \"localhost\" has one label"}`},
		{"GET /v1/domains/%5B192.0.2.1%5D", 400, `not a domain name`},
		{"POST /v1/domains/a%20b.example/refresh", 400, `not a domain name`},
		{"DELETE /v1/domains/a%2Fb.example", 400, `not a domain name`},
		{"GET /v1/domains?after=x", 400, `one label`},
		{"GET /v1/domains?limit=0", 400, `limit is \"0\"`},
		{"GET /v1/domains?limit=1001", 400, `from 1 to 1000`},
		{"GET /v1/domains?limit=many", 400, `limit is \"many\"`},
		{"GET /", 404, `This daemon has no page GET "/".`},
		{"GET /v2/status", 404, `This daemon has no page GET "/v2/status".`},
		{"POST /v1/status", 404, `This daemon has no page POST "/v1/status".`},
		{"GET /v1/domains/", 404, `no page`},
		{"GET /v1/domains/example.com/refresh", 404, `no page`},
	} {
		t.Run(test.request, func(t *testing.T) {
			status, body := request(t, path, test.request+" HTTP/1.1\r\nHost: x\r\n\r\n")
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d, %s, want %d, %s", status, body, test.status, test.want)
			}
		})
	}
}

func TestLimitsOfARequest(t *testing.T) {
	d := &daemon{views: map[string]cache.View{"example.com": {Source: cache.SourceStore}}}
	path := serve(t, d)
	status, body := request(t, path, "DELETE /v1/domains/example.com HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	if status != 400 || !strings.Contains(body, "no body") || len(d.purged) != 0 {
		t.Errorf("with a body: got %d, %s, purged %v", status, body, d.purged)
	}
	status, _ = request(t, path, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("with a long header: got %d", status)
	}
}

func TestErrorsOfTheCache(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("refreshing: %w", cache.ErrBusy), 503},
		{cache.ErrClosed, 503},
		{cache.ErrCutShort, 503},
		{errors.New("disk full"), 500},
	} {
		d := &daemon{views: map[string]cache.View{}, err: test.err}
		path := serve(t, d)
		for _, page := range []string{"POST /v1/domains/example.com/refresh", "DELETE /v1/domains/example.com", "DELETE /v1/domains", "GET /v1/domains"} {
			status, body := request(t, path, page+" HTTP/1.1\r\nHost: x\r\n\r\n")
			var p struct{ Error string }
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != test.status || !strings.Contains(p.Error, test.err.Error()) {
				t.Errorf("%s: got %d, %s, want %d, %v", page, status, body, test.status, test.err)
			}
		}
	}
}

func TestPurgeOfAllThatIsNotComplete(t *testing.T) {
	d := &daemon{records: []cache.Record{record(t, "a.example", "enforce")}, err: cache.ErrStillShared}
	_, body := request(t, serve(t, d), "DELETE /v1/domains HTTP/1.1\r\nHost: x\r\n\r\n")
	if want := cache.ErrStillShared.Error() + " (domains purged: 1)"; !strings.Contains(body, want) {
		t.Errorf("got %s, want %q", body, want)
	}
}

func TestStatusOfAStoreThatFails(t *testing.T) {
	path := serve(t, &daemon{err: errors.New("it is closed")})
	c := admin.NewClient(path)
	defer c.Close()
	st, err := c.Status(t.Context())
	if err != nil || st.Store.Error != "it is closed" || st.Version != "1.2.3" {
		t.Errorf("got %+v, %v", st, err)
	}
}

func TestListInPages(t *testing.T) {
	d := &daemon{}
	for i := range 2001 {
		d.records = append(d.records, record(t, fmt.Sprintf("d%04d.example", i), "enforce"))
	}
	c := admin.NewClient(serve(t, d))
	defer c.Close()
	var got []string
	pages := 0
	for after := ""; ; pages++ {
		page, err := c.List(t.Context(), after)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Domains {
			got = append(got, row.Domain)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(got) != 2001 || got[2000] != "d2000.example" || pages != 2 {
		t.Errorf("%d domains on %d pages and the last, the last is %s", len(got), pages, got[len(got)-1])
	}
}

func TestRows(t *testing.T) {
	d := &daemon{records: []cache.Record{
		record(t, "a.example", "enforce"), record(t, "b.example", ""), record(t, "c.example", "?"),
	}}
	c := admin.NewClient(serve(t, d))
	defer c.Close()
	page, err := c.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	rows := page.Domains
	if rows[0].Mode != "enforce" || rows[1].Mode != "" || rows[1].Failure.Reason != "404" || rows[2].Mode != "unreadable" {
		t.Errorf("got %+v", rows)
	}
}

// The names of the members are an interface.
func TestShowTellsEverything(t *testing.T) {
	p, _ := parse("enforce")
	mx, err := policy.ParseMXPattern("*.example.com")
	if err != nil {
		t.Fatal(err)
	}
	p.MX = []policy.MXPattern{mx}
	stored := record(t, "example.com", "enforce")
	d := &daemon{views: map[string]cache.View{"example.com": {
		Now: noon, Source: cache.SourceMemory, Damaged: noon, LastUse: noon, Record: &stored,
		StoreErr: errors.New("broken"), Unwritten: true, Expiring: true,
		STS: policy.STS{
			Policy: p, ID: "1", Fetched: noon.Add(-time.Minute), Refresh: noon.Add(time.Minute),
			Record: policy.RecordFailed, Detail: "SERVFAIL", Looked: noon, Recheck: noon.Add(time.Second),
			Failure: policy.Failure{ID: "2", At: noon, Count: 3, Kind: "tls", Reason: "expired"},
			Churn:   policy.Churn{Count: 4, Since: noon}, Lost: true,
		},
		Hops: []cache.HopView{{Hop: policy.NextHop{Domain: dom(t, "example.com"), Port: 587}, DANE: policy.DANE{
			MX: policy.MXSecure, Detail: "why", Learned: noon, Expires: noon,
			Hosts: []policy.MXHost{{Name: "mx.example.com", Preference: 10, State: policy.HostUsable, Detail: "so"}},
		}}},
		UnderWay: []cache.Step{{At: noon, What: "this"}}, Next: []cache.Step{{At: noon, What: "that"}},
	}}}
	const want = `{"domain":"example.com","now":"2026-01-02T12:00:00Z","known":true,"source":"memory","used":"2026-01-02T12:00:00Z",` +
		`"policy":{"in_force":true,"mode":"enforce","max_age":3600,"mx":["*.example.com"],"id":"1",` +
		`"fetched":"2026-01-02T11:59:00Z","expires":"2026-01-02T12:59:00Z","refresh":"2026-01-02T12:01:00Z","text":"enforce"},` +
		`"record":{"state":"failed","detail":"SERVFAIL","looked":"2026-01-02T12:00:00Z","recheck":"2026-01-02T12:00:01Z"},` +
		`"failure":{"id":"2","at":"2026-01-02T12:00:00Z","count":3,"kind":"tls","reason":"expired"},` +
		`"churn":{"count":4,"since":"2026-01-02T12:00:00Z"},"lost":true,"damaged_since":"2026-01-02T12:00:00Z","expiring":true,` +
		`"next_hops":[{"next_hop":"example.com:587","mx":"secure","detail":"why",` +
		`"hosts":[{"name":"mx.example.com","preference":10,"state":"usable","detail":"so"}],` +
		`"learned":"2026-01-02T12:00:00Z","expires":"2026-01-02T12:00:00Z"}],` +
		`"stored":{"domain":"example.com","mode":"enforce","id":"1","fetched":"2026-01-02T12:00:00Z",` +
		`"expires":"2026-01-02T13:00:00Z","used":"2026-01-02T12:00:00Z"},"store_error":"broken","unwritten":true,` +
		`"under_way":[{"at":"2026-01-02T12:00:00Z","what":"this"}],"next":[{"at":"2026-01-02T12:00:00Z","what":"that"}]}` + "\n"
	path := serve(t, d)
	if _, got := request(t, path, "GET /v1/domains/example.com HTTP/1.1\r\nHost: x\r\n\r\n"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	c := admin.NewClient(path)
	defer c.Close()
	if got, err := c.Show(t.Context(), "example.com"); err != nil || got.Hops[0].Hosts[0].State != "usable" || !got.Policy.InForce {
		t.Errorf("Show: %+v, %v", got, err)
	}
}

func TestClient(t *testing.T) {
	p, _ := parse("enforce")
	d := &daemon{
		views:   map[string]cache.View{"example.com": {Source: cache.SourceStore}},
		renewal: cache.RenewalFetched, sts: policy.STS{Policy: p, Fetched: time.Now()},
		records: []cache.Record{record(t, "a.example", "enforce")},
	}
	c := admin.NewClient(serve(t, d))
	defer c.Close()
	if got, err := c.Refresh(t.Context(), "example.com"); err != nil || got.Result != "fetched" || got.Policy.Mode != "enforce" || got.Failure != nil {
		t.Errorf("Refresh: %+v, %v", got, err)
	}
	if got, err := c.Purge(t.Context(), "example.com"); err != nil || got.Purged != 1 {
		t.Errorf("Purge: %+v, %v", got, err)
	}
	if got, err := c.PurgeAll(t.Context()); err != nil || got.Purged != 1 {
		t.Errorf("PurgeAll: %+v, %v", got, err)
	}
	if got, err := c.Stats(t.Context()); err != nil || got.Policies != 3 || got.Store.Path != "/p.db" {
		t.Errorf("Stats: %+v, %v", got, err)
	}
	for _, name := range []string{"other.example", "../../v1/status"} {
		_, err := c.Purge(t.Context(), name)
		if want := map[bool]error{true: admin.ErrNotKnown, false: admin.ErrRefused}[name == "other.example"]; !errors.Is(err, want) {
			t.Errorf("Purge(%s): %v, want %v", name, err, want)
		}
	}
}

func TestClientOfADaemonThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	stale, err := net.Listen("unix", filepath.Join(dir, "stale"))
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, want string }{
		{"none", "no such file or directory"},
		{"stale", "connection refused"},
	} {
		c := admin.NewClient(filepath.Join(dir, test.name))
		if _, err := c.Status(t.Context()); !errors.Is(err, admin.ErrUnreachable) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %v: %s", test.name, err, admin.ErrUnreachable, test.want)
		}
	}
}

func TestClientOfSomethingElse(t *testing.T) {
	for _, test := range []struct{ name, answer, want string }{
		{"no HTTP", "220 mail.example ESMTP\r\n", "malformed HTTP"},
		{"no JSON", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "no daemon of this kind"},
		{"an older daemon", "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nno such page", `404 Not Found: "no such page"`},
		{"a redirect", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "302 Found"},
		{"cut off", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{", "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, test.answer)
			}()
			if _, err := admin.NewClient(path).Status(t.Context()); !errors.Is(err, admin.ErrUnreachable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %v: %s", err, admin.ErrUnreachable, test.want)
			}
		})
	}
}

// A client that waits does not keep the daemon from ending.
func TestServeEndsThoughARequestHangs(t *testing.T) {
	d := &daemon{hang: true}
	s, err := admin.New(admin.Options{Cache: d, Store: d, Parse: parse, Status: d.status})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served, asked := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/domains/example.com/refresh HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := io.ReadAll(c)
		asked <- err
	}()
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := <-asked; err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client: %v", err)
	}
}

func TestServeTellsOfAListenerThatFails(t *testing.T) {
	s, err := admin.New(admin.Options{Cache: &daemon{}, Store: &daemon{}, Parse: parse, Status: (&daemon{}).status})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v, want %v", err, net.ErrClosed)
	}
}

func TestNewWantsWhatItNeeds(t *testing.T) {
	if _, err := admin.New(admin.Options{Cache: &daemon{}}); err == nil {
		t.Error("New took options without a store")
	}
}
