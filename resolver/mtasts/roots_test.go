package mtasts

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func write(t *testing.T, name string, text []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// poolOf is the pool of the authorities.
func poolOf(all ...*authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range all {
		pool.AddCert(a.cert)
	}
	return pool
}

func TestRootsByFile(t *testing.T) {
	a, b := newAuthority(t, "A"), newAuthority(t, "B")
	both := slices.Concat([]byte("# roots\n"), a.pem(), []byte("\n"), b.pem(), []byte("# end\n"))
	odd := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	key := []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
	tests := []struct {
		name string
		text []byte
		want *x509.CertPool
		err  error
	}{
		{"one", a.pem(), poolOf(a), nil},
		{"two, and remarks", both, poolOf(a, b), nil},
		{"one that cannot be read", slices.Concat(odd, a.pem()), poolOf(a), nil},
		{"other things", slices.Concat(key, a.pem()), poolOf(a), nil},
		{"empty", nil, nil, errNoCertificate},
		{"no PEM", []byte("hello"), nil, errNoCertificate},
		{"only what cannot be read", odd, nil, errNoCertificate},
		{"only a key", key, nil, errNoCertificate},
		{"cut off", both[:len(both)-100], nil, errTruncated},
		{"too large", make([]byte, maxRootFile+1), nil, errRootFileSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name := write(t, filepath.Join(t.TempDir(), "roots.pem"), tt.text)
			pool, err := rootSource{files: []string{name}}.pool()
			if !errors.Is(err, tt.err) || tt.err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
			if tt.want != nil && !tt.want.Equal(pool) {
				t.Errorf("got other certificates")
			}
		})
	}
}

func TestRootSources(t *testing.T) {
	a, b, c := newAuthority(t, "A"), newAuthority(t, "B"), newAuthority(t, "C")
	dir := t.TempDir()
	fileA := write(t, filepath.Join(dir, "a.pem"), a.pem())
	fileB := write(t, filepath.Join(dir, "b.pem"), b.pem())
	write(t, filepath.Join(dir, "certs", "b.pem"), b.pem())
	write(t, filepath.Join(dir, "certs", "c.0"), c.pem())
	write(t, filepath.Join(dir, "certs", "README"), []byte("hello"))
	write(t, filepath.Join(dir, "certs", "sub", "a.pem"), a.pem())
	certs, none := filepath.Join(dir, "certs"), filepath.Join(dir, "none")
	half := filepath.Join(dir, "half")
	write(t, filepath.Join(half, "c.pem"), c.pem())
	write(t, filepath.Join(half, "a.pem"), a.pem()[:100])
	tests := []struct {
		name   string
		source rootSource
		want   *x509.CertPool // nil: an error
	}{
		{"the first file", rootSource{files: []string{none, fileA, fileB}, dirs: []string{certs}}, poolOf(a)},
		{"no file, so the directories", rootSource{files: []string{none}, dirs: []string{none, certs}}, poolOf(b, c)},
		{"file and directories", rootSource{files: []string{fileA}, dirs: []string{certs}, both: true}, poolOf(a, b, c)},
		{"directories only", rootSource{dirs: []string{certs}, both: true}, poolOf(b, c)},
		{"file only", rootSource{files: []string{fileB}, both: true}, poolOf(b)},
		{"nothing", rootSource{files: []string{none}, dirs: []string{none}}, nil},
		{"a directory in place of a file", rootSource{files: []string{certs}}, nil},
		{"a file in a directory is cut off", rootSource{dirs: []string{half}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pool, err := tt.source.pool()
			if tt.want == nil != (err != nil) || tt.want != nil && !tt.want.Equal(pool) {
				t.Errorf("got error %v, or other certificates", err)
			}
		})
	}
}

func TestSystemRootsByEnvironment(t *testing.T) {
	tests := []struct {
		file, dir string
		want      rootSource
	}{
		{"", "", rootSource{files: systemBundles, dirs: systemDirs}},
		{"/f", "", rootSource{files: []string{"/f"}, both: true}},
		{"", "/d:/e", rootSource{dirs: []string{"/d", "/e"}, both: true}},
		{"/f", "/d", rootSource{files: []string{"/f"}, dirs: []string{"/d"}, both: true}},
	}
	for _, tt := range tests {
		env := map[string]string{"SSL_CERT_FILE": tt.file, "SSL_CERT_DIR": tt.dir}
		got := systemRoots(func(name string) string { return env[name] })
		if !slices.Equal(got.files, tt.want.files) || !slices.Equal(got.dirs, tt.want.dirs) || got.both != tt.want.both {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}

// rootsLog is the roots of a file, and what they log.
func rootsLog(t *testing.T, name string) (*roots, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	r, err := newRoots(name, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	return r, logs
}

func wantRoots(t *testing.T, r *roots, want *x509.CertPool, when string) {
	t.Helper()
	if pool, err := r.get(time.Now()); err != nil || !want.Equal(pool) {
		t.Errorf("%s: got error %v, or other certificates", when, err)
	}
}

func TestChangedFileIsReadAgain(t *testing.T) {
	a, b := newAuthority(t, "A"), newAuthority(t, "B")
	name := a.file(t)
	synctest.Test(t, func(t *testing.T) {
		r, _ := rootsLog(t, name)
		replace(t, name, b.pem())
		time.Sleep(rootsCheck - time.Second)
		wantRoots(t, r, poolOf(a), "before it is looked at")
		time.Sleep(time.Second)
		wantRoots(t, r, poolOf(b), "after a minute")
	})
}

// replace puts another file in the place of name, as packages do.
func replace(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.Rename(write(t, name+".new", text), name); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenFileKeepsTheOldRoots(t *testing.T) {
	a, b := newAuthority(t, "A"), newAuthority(t, "B")
	name := a.file(t)
	synctest.Test(t, func(t *testing.T) {
		r, logs := rootsLog(t, name)
		for _, broken := range [][]byte{nil, b.pem()[:200], []byte("hello")} {
			replace(t, name, broken)
			time.Sleep(rootsCheck)
			wantRoots(t, r, poolOf(a), "broken")
			if err := r.reload(time.Now()); err == nil {
				t.Errorf("a broken file is read")
			}
			wantRoots(t, r, poolOf(a), "broken, after a reload")
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rootsCheck)
		wantRoots(t, r, poolOf(a), "removed")
		if n := logs.Len(); n != 4 {
			t.Errorf("got %d messages, want one for each change", n)
		}
		time.Sleep(rootsCheck)
		wantRoots(t, r, poolOf(a), "still removed")
		if n := logs.Len(); n != 4 {
			t.Errorf("got %d messages, want none without a change", n)
		}
		replace(t, name, b.pem())
		time.Sleep(rootsCheck)
		wantRoots(t, r, poolOf(b), "repaired")
	})
}

func TestRootsAreReadDaily(t *testing.T) {
	name := newAuthority(t, "A").file(t)
	synctest.Test(t, func(t *testing.T) {
		r, _ := rootsLog(t, name)
		start := time.Now()
		for time.Since(start) < rootsLife-rootsCheck {
			time.Sleep(rootsCheck)
			wantRead(t, r, start)
		}
		time.Sleep(rootsCheck)
		wantRead(t, r, start.Add(rootsLife))
	})
}

func wantRead(t *testing.T, r *roots, want time.Time) {
	t.Helper()
	if _, err := r.get(time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := r.current.Load().read; !got.Equal(want) {
		t.Errorf("read at %v, want %v", got, want)
	}
}

func TestNoRootsAtTheStart(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	if _, err := New(Options{DNS: silent{}, CAFile: missing}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is named and missing: got %v", err)
	}
	t.Setenv("SSL_CERT_FILE", missing)
	t.Setenv("SSL_CERT_DIR", "")
	core, logs := observer.New(zap.DebugLevel)
	r, err := New(Options{DNS: silent{}, Log: zap.New(core)})
	if err != nil {
		t.Fatalf("the system's are missing: got %v", err)
	}
	if logs.FilterLevelExact(zap.ErrorLevel).Len() != 1 {
		t.Errorf("it is not logged")
	}
	if _, err := r.fetcher.roots.get(time.Now()); !errors.Is(err, errNoRoots) {
		t.Errorf("got %v", err)
	}
	a := newAuthority(t, "A")
	write(t, missing, a.pem())
	if err := r.ReloadRoots(); err != nil {
		t.Fatal(err)
	}
	wantRoots(t, r.fetcher.roots, poolOf(a), "after a reload")
}
