package config_test

import (
	"errors"
	"testing"

	"tlspolicyd/internal/config"
)

func TestDirectories(t *testing.T) {
	const none = "(none)"
	tests := []struct {
		name           string
		uid            int
		env            map[string]string
		state, runtime string
	}{
		{"root", 0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/y"},
			"/var/lib/tlspolicyd", "/run/tlspolicyd"},
		{"systemd", 990, map[string]string{"STATE_DIRECTORY": "/var/lib/t", "RUNTIME_DIRECTORY": "/run/t", "HOME": "/h"},
			"/var/lib/t", "/run/t"},
		{"systemd as root", 0, map[string]string{"STATE_DIRECTORY": "/var/lib/t", "RUNTIME_DIRECTORY": "/run/t"},
			"/var/lib/t", "/run/t"},
		{"systemd with several", 990, map[string]string{"STATE_DIRECTORY": "/s/a:/s/b", "RUNTIME_DIRECTORY": "/r/a:/r/b"},
			"/s/a", "/r/a"},
		{"user", 1000, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/run/user/1000"},
			"/x/tlspolicyd", "/run/user/1000/tlspolicyd"},
		{"user with a home only", 1000, map[string]string{"HOME": "/home/u"},
			"/home/u/.local/state/tlspolicyd", "/home/u/.local/state/tlspolicyd"},
		{"relative XDG paths are ignored", 1000, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "x", "XDG_RUNTIME_DIR": "y"},
			"/home/u/.local/state/tlspolicyd", "/home/u/.local/state/tlspolicyd"},
		{"relative paths of systemd are refused", 0, map[string]string{"STATE_DIRECTORY": "x", "RUNTIME_DIRECTORY": "y"},
			none, none},
		{"nothing", 1000, nil, none, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			getenv := func(name string) string { return tt.env[name] }
			for what, f := range map[string]struct {
				dir  func(func(string) string, int) (string, error)
				want string
			}{"state": {config.StateDir, tt.state}, "runtime": {config.RuntimeDir, tt.runtime}} {
				got, err := f.dir(getenv, tt.uid)
				if f.want == none {
					if !errors.Is(err, config.ErrNoDirectory) {
						t.Errorf("%s: got %q, %v, want ErrNoDirectory", what, got, err)
					}
					continue
				}
				if err != nil || got != f.want {
					t.Errorf("%s: got %q, %v, want %q", what, got, err, f.want)
				}
			}
		})
	}
}
