package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"
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
