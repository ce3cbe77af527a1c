package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"
)

// broken says what keeps Postfix from TLS, or from delivery, whatever the key is.
func (c *Checker) broken(ctx context.Context, p *Postfix) []string {
	if p == nil || p.Err != nil {
		return nil
	}
	noTLS := c.noTLS(p)
	p.Lacks = append(p.Lacks, noTLS...)
	return append(c.silence(ctx, p), noTLS...)
}

// silence says that nobody listens where Postfix asks; nil if somebody does, or if
// that is not known. Postfix takes that for "cannot know", whatever the domain is.
func (c *Checker) silence(ctx context.Context, p *Postfix) []string {
	if c.o.Dial == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	for _, m := range socketmaps(p.Settings[setMaps]) {
		if c.deserted(ctx, m.address, p.Settings[setQueue]) {
			return []string{fmt.Sprintf("nobody listens at %s, which %s asks, so Postfix defers all mail but what a table before it excepts", m.address, setMaps)}
		}
	}
	return nil
}

// deserted reports whether it is certain that nobody listens at an address of a
// socketmap.
func (c *Checker) deserted(ctx context.Context, address, queueDir string) bool {
	network, targets := "tcp", []string{address}
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		// Within its queue directory: of a path that begins with a slash, only
		// for programs in a chroot.
		network, targets = "unix", []string{filepath.Join(queueDir, path)}
		if filepath.IsAbs(path) {
			targets = append(targets, path)
		}
	}
	for _, target := range targets {
		conn, err := c.o.Dial(ctx, network, target)
		if err == nil {
			_ = conn.Close() // nothing was asked
			return false
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// dialer connects to an address of a socketmap.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)
