package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap/zapcore"

	"tlspolicyd/internal/printable"
)

// The exit codes.
const (
	exitYes = 0
	exitNo  = 1
	// exitUnknown is for usage errors, and for all that cannot be known.
	exitUnknown = 2
)

// exitError ends the program with a code. Without an error there is nothing to
// say: the result has been printed.
type exitError struct {
	code int
	err  error
}

// Error returns the message of the error within.
func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the error within.
func (e *exitError) Unwrap() error { return e.err }

// flagError says what is wrong with an option.
func flagError(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && bad.GetFlag().NoOptDefVal != "" {
		return usageError(cmd, "--%s is an option without a value, not %q", bad.GetFlag().Name, bad.GetValue())
	}
	return usageError(cmd, "%w", err)
}

// answer returns the error for a code whose result has been printed.
func answer(code int) error {
	if code == exitYes {
		return nil
	}
	return &exitError{code: code}
}

// usageError says that a command line makes no sense.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	args = append(args, cmd.CommandPath())
	return &exitError{exitUnknown, fmt.Errorf(format+"; see %s --help", args...)}
}

// exitCode prints what there is to say of err, and returns the code with which
// to exit.
func exitCode(err error, messages io.Writer) int {
	if err == nil {
		return exitYes
	}
	code := exitUnknown
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	level := ""
	if f, ok := messages.(*os.File); ok && toJournal(f, os.Getenv) {
		level = fmt.Sprintf("<%d>", priority(zapcore.ErrorLevel))
	}
	for line := range strings.Lines(err.Error()) {
		// A message may quote the name of a file, or a domain.
		fmt.Fprintf(messages, "%stlspolicyd: %s\n", level, printable.Escape(strings.TrimSuffix(line, "\n")))
	}
	return code
}

// maxDistance is how many letters may be wrong in a command that is recognised
// all the same.
const maxDistance = 2

// group is a command that only holds others.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError(cmd, "a command is missing")
	}
	near := ""
	cmd.SuggestionsMinimumDistance = maxDistance
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		near = fmt.Sprintf("; did you mean %s?", names[0])
	}
	return usageError(cmd, "there is no command %q%s", args[0], near)
}

// noArguments refuses arguments.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(cmd, "%q is one argument too many", args[0])
	}
	return nil
}
