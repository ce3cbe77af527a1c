package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// ErrNoDirectory says that the environment names no directory to use.
var ErrNoDirectory = errors.New("no directory to use")

// StateDir returns the directory for what must outlive a restart: that which
// systemd gives ($STATE_DIRECTORY), else /var/lib/tlspolicyd for root, else the
// user's own. It is not created. getenv is os.Getenv, uid the user's number.
func StateDir(getenv func(string) string, uid int) (string, error) {
	if dir := getenv("STATE_DIRECTORY"); dir != "" {
		return givenDir("STATE_DIRECTORY", dir)
	}
	if uid == 0 {
		return "/var/lib/tlspolicyd", nil
	}
	// XDG Base Directory Specification: a path that is not absolute is to be
	// ignored.
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tlspolicyd"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local/state/tlspolicyd"), nil
	}
	return "", fmt.Errorf("finding the state directory: %w: none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set", ErrNoDirectory)
}

// RuntimeDir returns the directory for sockets: that which systemd gives
// ($RUNTIME_DIRECTORY), else /run/tlspolicyd for root, else the user's own, else
// the state directory. It is not created.
func RuntimeDir(getenv func(string) string, uid int) (string, error) {
	if dir := getenv("RUNTIME_DIRECTORY"); dir != "" {
		return givenDir("RUNTIME_DIRECTORY", dir)
	}
	if uid == 0 {
		return "/run/tlspolicyd", nil
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tlspolicyd"), nil
	}
	return StateDir(getenv, uid)
}

// givenDir returns the first of the directories that systemd gives, with colons
// between them (systemd.exec(5)).
func givenDir(name, value string) (string, error) {
	dir, _, _ := strings.Cut(value, ":")
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("finding a directory: %w: %s is %q, which is no absolute path", ErrNoDirectory, name, value)
	}
	return filepath.Clean(dir), nil
}
