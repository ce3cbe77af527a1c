//go:build e2e

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Release is an installation of Postfix.
type Release struct {
	name string
	// root is the directory that its system is in; empty means this one.
	root string
}

// String returns the name of the release.
func (r Release) String() string { return r.name }

// System is the Postfix of this machine. Before 3.10 it knows no attributes
// for reports.
func System() Release { return Release{name: "system"} }

// Next is the Postfix of the tree that test/setup.sh builds, 3.10.5 or later.
func Next() Release { return Release{name: "next", root: treeDir()} }

// treeDir is where test/setup.sh keeps the tree.
func treeDir() string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = "/var/cache"
	}
	return filepath.Join(cache, "tlspolicyd-test", "trixie")
}

// joinTree gives the tree the lab's processes, devices, resolver and /run. It
// is only seen in the namespace of the lab.
func joinTree() error {
	tree := treeDir()
	if _, err := os.Stat(filepath.Join(tree, ".complete")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("there is no %s: run test/setup.sh", tree)
	} else if err != nil {
		return err
	}
	if err := bind(tree, tree); err != nil {
		return err
	}
	for _, dir := range []string{"/proc", "/dev", "/run", "/etc/resolv.conf"} {
		if err := bind(dir, filepath.Join(tree, dir)); err != nil {
			return err
		}
	}
	// A test must not be able to change what later ones run in.
	if err := syscall.Mount("", tree, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("protecting %s: %w", tree, err)
	}
	return nil
}
