package dnsclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"
)

const (
	// maxResolvConf is how much of a resolv.conf is read, in bytes.
	maxResolvConf = 64 << 10
	// maxServers is how many servers of a resolv.conf are used, as by the C
	// library.
	maxServers = 3
	// lookEvery is the least time between two looks at a resolv.conf.
	lookEvery = time.Second
	// settled is how old a file must be for its time stamp to tell it from
	// one that was changed while it was read.
	settled = 2 * time.Second
)

// errUnsettled: the file lists no server, but was changed just now, so that
// whoever changes it may still be at it.
var errUnsettled = errors.New("no servers listed, changed just now")

// parseResolvConf reads the servers of a resolv.conf(5). What the C library
// ignores is ignored; no server at all means the ones of this host. Search
// lists, timeout and attempts are none of its business.
func parseResolvConf(text []byte, blessed trust) (list []endpoint, listed int) {
	var addrs []netip.Addr
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) < 2:
		case fields[0] == "nameserver" && len(addrs) < maxServers:
			if addr, ok := resolvAddr(fields[1]); ok {
				addrs = append(addrs, addr)
			}
		case fields[0] == "options" && hasTrustAD(fields[1:]):
			blessed = trusted
		}
	}
	listed = len(addrs)
	if listed == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	for _, addr := range addrs {
		list = append(list, newEndpoint(netip.AddrPortFrom(addr, defaultPort), blessed))
	}
	return list, listed
}

// resolvAddr reads the address of a nameserver line. The unspecified address
// means this host.
func resolvAddr(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.IsMulticast():
		return netip.Addr{}, false
	case addr == netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	case addr == netip.IPv6Unspecified():
		return netip.IPv6Loopback(), true
	}
	return addr.Unmap(), true
}

// hasTrustAD reports whether trust-ad is among the options, before a comment.
func hasTrustAD(options []string) bool {
	for _, o := range options {
		if o[0] == '#' || o[0] == ';' {
			return false
		}
		if o == "trust-ad" {
			return true
		}
	}
	return false
}

// resolvFile follows a resolv.conf. It is used by one goroutine at a time.
type resolvFile struct {
	path    string
	blessed trust
	// seen is the file as it was when it was last read; nil if it never was.
	seen fs.FileInfo
	// racy says that the file was so young then that it may have changed
	// since without a new time stamp.
	racy bool
}

// changed reports whether the file must be read: a file never read, another
// file under the path (a rename, another target of a symbolic link), or one
// that was edited in place.
func (f *resolvFile) changed() (bool, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return false, fmt.Errorf("look at resolv.conf: %w", err)
	}
	return f.seen == nil || f.racy || !os.SameFile(info, f.seen) ||
		info.Size() != f.seen.Size() || !info.ModTime().Equal(f.seen.ModTime()), nil
}

// read reads the servers. The error wraps fs.ErrNotExist if there is no file,
// and errUnsettled if a change may be in progress.
func (f *resolvFile) read() ([]endpoint, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("open resolv.conf: %w", err)
	}
	defer file.Close() // Only read from.
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at resolv.conf: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxResolvConf))
	if err != nil {
		return nil, fmt.Errorf("read resolv.conf: %w", err)
	}
	list, listed := parseResolvConf(text, f.blessed)
	first := f.seen == nil
	f.seen, f.racy = info, time.Since(info.ModTime()) < settled
	if listed == 0 && f.racy && !first {
		return nil, errUnsettled
	}
	return list, nil
}

// local is the list for a host without a resolv.conf, as in the C library.
func (f *resolvFile) local() []endpoint {
	list, _ := parseResolvConf(nil, f.blessed)
	return list
}
