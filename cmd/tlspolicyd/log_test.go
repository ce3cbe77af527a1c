package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// journalOf is what systemd sets where f leads to the journal.
func journalOf(t *testing.T, f *os.File) string {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

func TestFormatOfTheLog(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tests := []struct{ name, format, stream, want string }{
		{"the journal", "auto", journalOf(t, f), "journal"},
		{"a file, of a process that a service has started", "auto", "9:20747", "json"},
		{"a file", "auto", "", "json"},
		{"as it is configured", "console", journalOf(t, f), "console"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := logFormat(tt.format, f, func(string) string { return tt.stream }); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Why the daemon does not start is an error of the journal, line by line.
func TestErrorsInTheJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	t.Setenv("JOURNAL_STREAM", journalOf(t, f))
	if code := exitCode(errors.New("one\ntwo"), f); code != exitUnknown {
		t.Errorf("the code is %d", code)
	}
	const want = "<3>tlspolicyd: one\n<3>tlspolicyd: two\n"
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
