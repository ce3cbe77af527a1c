package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// postconfPaths are where the program is when it is not in the search path of
// who is not root.
var postconfPaths = []string{"postconf", "/usr/sbin/postconf", "/usr/local/sbin/postconf"}

// maxSettings is how much of what the program says is read, in bytes.
const maxSettings = 64 << 10

// maxSaid is how many complaints of the program are shown.
const maxSaid = 5

// RunPostconf is the [Postconf] of this machine.
func RunPostconf(ctx context.Context, names ...string) (Settings, error) {
	path, err := findPostconf()
	if err != nil {
		return Settings{}, err
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, path, append([]string{"-x"}, names...)...)
	cmd.WaitDelay = time.Second // for a child that keeps the output open
	cmd.Stderr = &said
	out, err := cmd.Output()
	lines := complaints(said.String())
	s := Settings{Said: lines[:min(len(lines), maxSaid)]}
	switch {
	case err != nil && len(lines) > 0:
		// It gives up with the last line; what is before it are warnings.
		return Settings{}, fmt.Errorf("running %s: %w: %s", path, err, lines[len(lines)-1])
	case err != nil:
		return Settings{}, fmt.Errorf("running %s: %w", path, err)
	case len(out) > maxSettings:
		// A list that is cut short would be a line to paste that is wrong.
		return Settings{}, fmt.Errorf("running %s: it prints more than %d bytes", path, maxSettings)
	}
	s.Values = readSettings(string(out))
	return s, nil
}

// complaints returns the lines, each once: some are said for every setting.
func complaints(text string) []string {
	var said []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(said, line) {
			said = append(said, line)
		}
	}
	return said
}

// PostfixName returns what Postfix calls itself when it greets a mail host;
// empty if that cannot be read.
func PostfixName(ctx context.Context, postconf Postconf) string {
	if postconf == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, sideTimeout)
	defer cancel()
	settings, err := postconf(ctx, setHELO, setHostName)
	if err != nil {
		return ""
	}
	for _, name := range []string{settings.Values[setHELO], settings.Values[setHostName]} {
		if name != "" && strings.IndexFunc(name, notInName) < 0 {
			return name
		}
	}
	return ""
}

// notInName is for what no name, and no address in brackets, has in it.
func notInName(c rune) bool { return c <= ' ' || c > '~' }

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
