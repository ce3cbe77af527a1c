package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestExitCode(t *testing.T) {
	tests := []struct {
		name    string
		err     error
		want    int
		message string
	}{
		{"no error", nil, 0, ""},
		{"answer no", answer(exitNo), 1, ""},
		{"answer yes", answer(exitYes), 0, ""},
		{"any error", errors.New("no luck"), 2, "tlspolicyd: no luck\n"},
		{"wrapped answer", fmt.Errorf("more: %w", &exitError{exitNo, errors.New("no")}), 1, "tlspolicyd: more: no\n"},
		{"odd characters", errors.New("open a\x1b[31m\u202e\u009b.txt"), 2, `tlspolicyd: open a\u001b[31m\u202e\u009b.txt` + "\n"},
		{"several lines", errors.New("one\ntwo"), 2, "tlspolicyd: one\ntlspolicyd: two\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var messages bytes.Buffer
			got := exitCode(tt.err, &messages)
			if got != tt.want || messages.String() != tt.message {
				t.Errorf("got %d, %q, want %d, %q", got, messages.String(), tt.want, tt.message)
			}
		})
	}
}

// full is a standard output that takes nothing, like a full disk.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	for _, args := range [][]string{
		{"version"}, {"config", "show"}, {"config", "check"}, {"lint", "-"}, {"lint", "--json", "-"},
	} {
		var messages bytes.Buffer
		code := run(context.Background(), args, t.TempDir()+"/none.yaml", strings.NewReader("version: STSv1\n"), full{}, &messages)
		if code != exitUnknown || messages.String() != "tlspolicyd: no space left\n" {
			t.Errorf("%v: got %d, %q", args, code, messages.String())
		}
	}
}

// What cannot be read half-way is no policy of half the length.
func TestLintOfAFailingInput(t *testing.T) {
	var out, messages bytes.Buffer
	in := io.MultiReader(strings.NewReader("version: STSv1\n"), failing{})
	code := run(context.Background(), []string{"lint", "-"}, "", in, &out, &messages)
	if code != exitUnknown || out.Len() > 0 || messages.String() != "tlspolicyd: reading the policy: broken pipe\n" {
		t.Errorf("got %d, %q, %q", code, out.String(), messages.String())
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken pipe") }
