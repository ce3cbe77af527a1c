package check

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// postconfPaths are where the program is when it is not in the search path of
// who is not root.
var postconfPaths = []string{"postconf", "/usr/sbin/postconf", "/usr/local/sbin/postconf"}

// maxSettings is how much of what the program says is read, in bytes.
const maxSettings = 64 << 10

// RunPostconf is the [Postconf] of this machine.
func RunPostconf(ctx context.Context, names ...string) (map[string]string, error) {
	path, err := findPostconf()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"-x"}, names...)...)
	cmd.WaitDelay = time.Second // for a child that keeps the output open
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", path, err)
	}
	return readSettings(string(out[:min(len(out), maxSettings)])), nil
}

func findPostconf() (string, error) {
	for _, name := range postconfPaths {
		path, err := exec.LookPath(name)
		if err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no postconf: Postfix is not on this machine")
}

// readSettings reads lines of the form "name = value".
func readSettings(text string) map[string]string {
	settings := make(map[string]string)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, "=")
		if ok {
			settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return settings
}
