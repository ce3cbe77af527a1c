//go:build e2e

package contrib

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tlspolicyd/test/lab"
)

// The tests run in the lab, where nothing else is at the ports of web servers.
func TestMain(m *testing.M) { lab.Main(m) }

const (
	nginxFolder = "../../contrib/nginx/"
	// webAddress is where nginx is in the lab.
	webAddress = "127.0.0.4"
	webDomain  = "nginx.test"
)

// web is an nginx with the configuration that contrib offers.
type web struct {
	dir, policy string
	// text is the policy file as contrib has it, for the domain of the test.
	text string
}

// surroundings is a server that does to all else what must not be done to a
// policy.
const surroundings = `user root;
daemon off;
pid nginx.pid;
error_log stderr;
events { }
http {
    access_log off;
    default_type application/octet-stream;
    types { text/html html txt; }
    charset utf-8;
    gzip on;
    gzip_min_length 0;
    gzip_types *;
    include mta-sts.conf;
}
`

// newWeb changes in the files of contrib what their README says is to be changed.
func newWeb(t *testing.T, l *lab.Lab) *web {
	t.Helper()
	w := &web{dir: t.TempDir()}
	w.policy = filepath.Join(w.dir, webDomain+".txt")
	conf := contents(t, nginxFolder+"mta-sts.conf")
	if n := strings.Count(withoutComments(conf), "example.com"); n != 4 {
		t.Errorf("example.com stands in %d places of mta-sts.conf, and the README says 4", n)
	}
	conf = strings.NewReplacer(
		"/var/www/mta-sts/", w.dir+"/", "/etc/letsencrypt/live/mta-sts.example.com/", w.dir+"/", "example.com", webDomain,
		// The policy hosts of the lab have the port at other addresses.
		"listen 443 ssl;", "listen "+webAddress+":443 ssl;",
	).Replace(conf)
	w.text = strings.ReplaceAll(contents(t, nginxFolder+"mta-sts.txt"), "example.com", webDomain)
	write(t, w.dir, "nginx.conf", surroundings)
	write(t, w.dir, "mta-sts.conf", conf)
	write(t, w.dir, webDomain+".txt", w.text)
	cert := l.CA.Certificate(t, "mta-sts."+webDomain)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.dir, "fullchain.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	write(t, w.dir, "privkey.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	return w
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func withoutComments(conf string) string {
	return regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(conf, "")
}

// start starts nginx, and waits until it listens.
func (w *web) start(t *testing.T) {
	t.Helper()
	arguments := []string{"-p", w.dir, "-c", "nginx.conf", "-e", "stderr"}
	if out, err := exec.CommandContext(t.Context(), "nginx", append(arguments, "-t")...).CombinedOutput(); err != nil || strings.Contains(string(out), "[warn]") {
		t.Fatalf("nginx -t: %v\n%s", err, out)
	}
	run(t, "nginx", arguments...)
	wait(t, func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", webAddress+":443")
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

var idForm = regexp.MustCompile(`(?m)^_mta-sts\.` + regexp.QuoteMeta(webDomain) + `\. IN TXT "v=STSv1; id=(\w+)"$`)

// lint runs the third step of the README, and returns the id that it prints.
func lint(t *testing.T, d *lab.Daemon) string {
	t.Helper()
	url := "https://mta-sts." + webDomain + "/.well-known/mta-sts.txt"
	if !strings.Contains(contents(t, nginxFolder+"README.md"), strings.ReplaceAll("tlspolicyd lint "+url, webDomain, "example.com")) {
		t.Error("this is not what the README says")
	}
	out, code := d.Run(t, "lint", url)
	id := idForm.FindStringSubmatch(out)
	if code != 0 || id == nil || strings.Contains(out, "note:") {
		t.Fatalf("lint exits with %d:\n%s", code, out)
	}
	return id[1]
}

// The way of the README: serve the file, look at it, publish the record, change
// the policy and roll the id.
func TestPolicyHostOfNginx(t *testing.T) {
	l := lab.New(t)
	d := l.StartDaemon(t, lab.DaemonOptions{Recheck: time.Second})
	w := newWeb(t, l)
	w.start(t)
	if out, code := d.Run(t, "lint", "--domain", webDomain, w.policy); code != 0 {
		t.Errorf("lint of the file exits with %d:\n%s", code, out)
	}
	zone := "mta-sts.{d}. 1 A " + webAddress + "\n{d}. 1 MX 10 mx1.{d}.\nmx1.{d}. 1 A 192.0.2.1\n"
	l.Zones.Set(t, strings.ReplaceAll(zone, "{d}", webDomain))
	publish := func(id string) {
		l.Zones.Set(t, "_mta-sts."+webDomain+`. 1 TXT "v=STSv1; id=`+id+`"`+"\n")
	}
	first := lint(t, d)
	publish(first)
	w.check(t, d, "unauthenticated", w.text)

	enforced := strings.Replace(w.text, "mode: testing", "mode: enforce", 1)
	write(t, w.dir, webDomain+".txt", enforced)
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // An id is a time in seconds.
	second := lint(t, d)
	if second == first {
		t.Errorf("the id %s is not new", second)
	}
	publish(second)
	w.check(t, d, "authenticated", enforced)
	want := "OK secure match=mx1." + webDomain + ":mx2." + webDomain + " servername=hostname"
	if got := d.Ask(t, "policy", webDomain); got != want {
		t.Errorf("the daemon answers %q, want %q", got, want)
	}
}

// check wants an outcome, and that the policy arrived as it is in the file.
func (w *web) check(t *testing.T, d *lab.Daemon, outcome, text string) {
	t.Helper()
	out, code := d.Run(t, "check", "--json", webDomain)
	var got struct {
		Outcome string
		STS     struct {
			Fetch struct {
				Status    int
				MediaType string `json:"media_type"`
				Text      string
			}
		} `json:"mta_sts"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("check exits with %d: %v\n%s", code, err, out)
	}
	if f := got.STS.Fetch; got.Outcome != outcome || f.Status != http.StatusOK || f.MediaType != "text/plain" || f.Text != text {
		t.Errorf("got %+v, want the outcome %s and the policy %q", got, outcome, text)
	}
}

// get asks nginx for a path, as a browser does, which takes compressed answers.
func (w *web) get(t *testing.T, l *lab.Lab, path string) *http.Response {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.CA.PEM())
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, webAddress+":443")
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mta-sts."+webDomain+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp
}

// Nothing is compressed, and nothing leads elsewhere.
func TestNginxServesThePolicyAndNothingElse(t *testing.T) {
	l := lab.New(t)
	w := newWeb(t, l)
	w.start(t)
	resp := w.get(t, l, "/.well-known/mta-sts.txt")
	if h := resp.Header; resp.StatusCode != http.StatusOK || h.Get("Content-Type") != "text/plain" || h.Get("Content-Encoding") != "" {
		t.Errorf("the policy: got %d, %v", resp.StatusCode, h)
	}
	for _, path := range []string{"/.well-known/mta-sts.txt/", "/.well-known/mta-sts", "/.well-known/", "/", "/index.html"} {
		if resp := w.get(t, l, path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d, %v", path, resp.StatusCode, resp.Header)
		}
	}
}
