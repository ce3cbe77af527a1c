package mtasts

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// maxRootFile is the size of the largest file of root certificates, in bytes.
const maxRootFile = 16 << 20

// Why a file gives no root certificates.
var (
	errNoCertificate = errors.New("no certificate in it")
	errTruncated     = errors.New("the last certificate is cut off")
	errRootFileSize  = fmt.Errorf("larger than %d bytes", maxRootFile)
)

// systemBundles are where systems keep their root certificates in one file.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Gentoo
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Red Hat
	"/etc/pki/tls/certs/ca-bundle.crt",                  // Red Hat, older
	"/etc/ssl/ca-bundle.pem",                            // SUSE
	"/var/lib/ca-certificates/ca-bundle.pem",            // SUSE
	"/etc/ssl/cert.pem",                                 // Alpine, the BSDs
	"/usr/local/share/certs/ca-root-nss.crt",            // FreeBSD
}

// systemDirs are where they keep them in a file each.
var systemDirs = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}

// rootSource says where root certificates are read: from the first of files
// that exists, and if none does or there are none, from every file in dirs.
// With both, as by the environment of OpenSSL, from all of them.
type rootSource struct {
	files, dirs []string
	// both says that files and dirs are read, and not dirs in place of files.
	both bool
}

// systemRoots returns where the system keeps root certificates. The variables
// SSL_CERT_FILE and SSL_CERT_DIR (a list, with colons) go before.
func systemRoots(getenv func(string) string) rootSource {
	s := rootSource{files: systemBundles, dirs: systemDirs}
	file, dirs := getenv("SSL_CERT_FILE"), getenv("SSL_CERT_DIR")
	if file == "" && dirs == "" {
		return s
	}
	s = rootSource{both: true}
	if file != "" {
		s.files = []string{file}
	}
	if dirs != "" {
		s.dirs = strings.Split(dirs, ":")
	}
	return s
}

// pool reads the certificates.
func (s rootSource) pool() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	fromFile, err := s.addBundle(pool)
	if err != nil {
		return nil, err
	}
	if fromFile && !s.both {
		return pool, nil
	}
	count, err := s.addDirs(pool)
	if err != nil {
		return nil, err
	}
	if !fromFile && count == 0 {
		return nil, fmt.Errorf("none of %q: %w", append(s.files[:len(s.files):len(s.files)], s.dirs...), os.ErrNotExist)
	}
	return pool, nil
}

// addBundle adds those of the first of files that exists.
func (s rootSource) addBundle(pool *x509.CertPool) (bool, error) {
	for _, name := range s.files {
		certs, err := readRoots(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		addAll(pool, certs)
		return true, nil
	}
	return false, nil
}

// addDirs adds those of every file in dirs and returns how many there are. A
// file that holds none, or cannot be read, is passed over: other things lie
// there too.
func (s rootSource) addDirs(pool *x509.CertPool) (int, error) {
	count := 0
	for _, dir := range s.dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading a directory: %w", err)
		}
		for _, e := range entries {
			certs, err := readRoots(filepath.Join(dir, e.Name()))
			if errors.Is(err, errTruncated) {
				return 0, err
			}
			addAll(pool, certs)
			count += len(certs)
		}
	}
	return count, nil
}

func addAll(pool *x509.CertPool, certs []*x509.Certificate) {
	for _, c := range certs {
		pool.AddCert(c)
	}
}

// readRoots reads a file of certificates in PEM. Those that package x509 does
// not read are left out, but a file that ends in the middle of one is refused:
// it is being written.
func readRoots(name string) ([]*x509.Certificate, error) {
	text, err := readLimited(name)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, c)
		}
	}
	switch {
	case bytes.Contains(text, []byte("-----BEGIN ")):
		return nil, fmt.Errorf("%s: %w", name, errTruncated)
	case len(certs) == 0:
		return nil, fmt.Errorf("%s: %w", name, errNoCertificate)
	}
	return certs, nil
}

// readLimited reads a regular file of at most maxRootFile bytes.
func readLimited(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("looking at a file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", name, errNoCertificate)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening a file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxRootFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading a file: %w", err)
	}
	if len(text) > maxRootFile {
		return nil, fmt.Errorf("%s: %w", name, errRootFileSize)
	}
	return text, nil
}

// fileStamps tell whether files are the same as before, by path.
type fileStamps map[string]fileStamp

type fileStamp struct {
	info os.FileInfo
	size int64
	mod  time.Time
}

// stamps looks at every file and directory that certificates could come from;
// those that do not exist are left out.
func (s rootSource) stamps() fileStamps {
	all := make(fileStamps)
	for _, names := range [2][]string{s.files, s.dirs} {
		for _, name := range names {
			if info, err := os.Stat(name); err == nil {
				all[name] = fileStamp{info: info, size: info.Size(), mod: info.ModTime()}
			}
		}
	}
	return all
}

func (a fileStamps) equal(b fileStamps) bool {
	if len(a) != len(b) {
		return false
	}
	for name, x := range a {
		y, ok := b[name]
		if !ok || x.size != y.size || !x.mod.Equal(y.mod) || !os.SameFile(x.info, y.info) {
			return false
		}
	}
	return true
}
