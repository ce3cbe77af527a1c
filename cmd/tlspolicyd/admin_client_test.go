package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/config"
)

func TestSocketToAsk(t *testing.T) {
	dir := t.TempDir()
	listen := func(name string) string {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return path
	}
	there, closed, none := listen("there"), listen("closed"), filepath.Join(dir, "none")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, own, system, want string }{
		{"a daemon of the user's own", there, closed, there},
		{"the system's, which may not be asked", none, closed, closed},
		{"none at all", none, none + "2", none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := socketToAsk(tt.own, tt.system); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A monitoring agent, say, has neither a home nor a directory for sockets.
func TestWhoHasNoDirectoryAsksTheDaemonOfTheSystem(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "relative")
	c, err := adminClient(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil && !strings.Contains(err.Error(), systemSocket) {
		t.Errorf("Status: %v, want that of %s", err, systemSocket)
	}
}

// What a domain publishes does not play with the terminal, in no output.
func TestObjectsAreFitForATerminal(t *testing.T) {
	const odd = "a\x1b\u202e\u009b\x7f"
	var object, rows bytes.Buffer
	if err := printJSON(&object, admin.Domain{Domain: odd}); err != nil {
		t.Error(err)
	}
	l := list{Writer: bufio.NewWriter(&rows)}
	if err := errors.Join(l.rowJSON(&admin.Row{Domain: odd}), l.Flush()); err != nil {
		t.Error(err)
	}
	for _, out := range []string{object.String(), rows.String()} {
		if i := strings.IndexFunc(out, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 || !strings.Contains(out, `a\u001b\u202e\u009b\u007f`) {
			t.Errorf("got %q", out)
		}
	}
	if strings.Count(rows.String(), "\n") != 1 {
		t.Errorf("a row is more than one line: %q", rows.String())
	}
}
