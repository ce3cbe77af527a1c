//go:build e2e

package contrib

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tlspolicyd/socketmap"
)

func TestRulesFireWhenTheyShould(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", rulesFile},
		{"test", "rules", "testdata/rules_test.yml"},
	} {
		out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// live is a daemon, and a Prometheus that scrapes it.
type live struct {
	socketmap, pages, prometheus string
}

// within is how long something may take to be there.
const within = 30 * time.Second

func start(t *testing.T) *live {
	t.Helper()
	l := &live{socketmap: freeAddress(t), pages: freeAddress(t), prometheus: freeAddress(t)}
	dir := t.TempDir()
	daemon := filepath.Join(dir, "tlspolicyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", daemon, "../../cmd/tlspolicyd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	config := write(t, dir, "tlspolicyd.yaml", fmt.Sprintf(
		"listen: [%q]\ndns: {servers: [%q], timeout: 100ms}\ncache: {file: %q, shared: {url: \"redis://127.0.0.1:1\"}}\nadmin: {socket: %q, http: %q}\n",
		l.socketmap, freeAddress(t), filepath.Join(dir, "policies.db"), filepath.Join(dir, "admin.sock"), l.pages))
	run(t, daemon, "serve", "--config", config)
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	scraping := write(t, dir, "prometheus.yml", fmt.Sprintf(
		"global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\n"+
			"scrape_configs: [{job_name: tlspolicyd, static_configs: [{targets: [%q]}]}]\n", rules, l.pages))
	run(t, "prometheus", "--config.file="+scraping, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+l.prometheus, "--log.level=warn")
	return l
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program until the test ends.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	})
}

// get reads a page of JSON.
func (l *live) get(t *testing.T, path string, into any) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.prometheus+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return json.Unmarshal(body, into)
}

// series asks a query and returns how many series answer it.
func (l *live) series(t *testing.T, expr string) (int, error) {
	t.Helper()
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	err := l.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &answer)
	return len(answer.Data.Result), err
}

// wait waits until cond returns nil.
func wait(t *testing.T, cond func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for err := cond(); err != nil; err = cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// What Grafana puts in the place of its variables.
var variables = strings.NewReplacer("$__rate_interval", "5s", "$job", ".*", "$instance", ".*")

func TestQueriesAnswerOnALiveScrape(t *testing.T) {
	l := start(t)
	wait(t, func() error {
		client, err := socketmap.Dial(t.Context(), l.socketmap)
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = client.Lookup(t.Context(), "policy", "example.com")
		return err
	})
	wait(t, func() error {
		const expr = `count_over_time(tlspolicyd_build_info[1m]) > 2`
		n, err := l.series(t, expr)
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing answers %s", expr)
		}
		return err
	})
	panels, _ := dashboard(t)
	for _, q := range panels {
		n, err := l.series(t, variables.Replace(q.expr))
		if err != nil || n == 0 {
			t.Errorf("%s: %d series answer %s: %v", q.what, n, q.expr, err)
		}
	}
	wait(t, func() error { return l.rulesHealthy(t) })
}

// rulesHealthy asks whether the server could evaluate every alert.
func (l *live) rulesHealthy(t *testing.T) error {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := l.get(t, "/api/v1/rules", &answer); err != nil {
		return err
	}
	healthy := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				return fmt.Errorf("the alert %s is %s: %s", r.Name, r.Health, r.LastError)
			}
			healthy++
		}
	}
	if want := len(rules(t)); healthy != want {
		return fmt.Errorf("%d alerts are evaluated, want %d", healthy, want)
	}
	return nil
}
