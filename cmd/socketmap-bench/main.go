// Command socketmap-bench measures a socketmap server: how many questions it
// answers in a second, how long an answer takes, and what it costs in CPU.
//
//	socketmap-bench load    -addr A [flags]   ask, and say what came of it
//	socketmap-bench compare -addr A [flags]   the same, by turns with a bare echo server
//	socketmap-bench echo    -listen A -reply TEXT
//
// The load is closed: every connection asks its next question when the answer
// to the last one has come, as a client of Postfix does. So what is measured
// is what client and server can do together on one machine; a figure of its
// own says little, and the ratio to the echo server's, of the same run, says
// what the server adds to the price of reading and writing a socket.
//
// The echo server answers every netstring with one fixed reply. It does
// nothing else: no deadline, no log, no count.
//
// It does not check what the answers mean, beyond their first word.
//
// Limits: 100,000 bytes for a reply, 64 KiB of counters per connection; a
// latency is known to within 1 %.
//
// Results go to standard output, as one line of JSON for each measurement;
// messages to standard error. It exits with 0 if everything was answered, 1 if
// not, 2 for a usage error.
//
// Specification: socketmap_table(5) of Postfix.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// errUsage is a command line that makes no sense.
var errUsage = errors.New("usage error")

const usage = `usage: socketmap-bench load    -addr A [flags]
       socketmap-bench compare -addr A [flags]
       socketmap-bench echo    -listen A -reply TEXT
"socketmap-bench COMMAND -help" lists the flags.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(exitCode(err, os.Stderr))
}

func exitCode(err error, messages io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprintln(messages, "socketmap-bench:", err)
		return exitUsage
	default:
		fmt.Fprintln(messages, "socketmap-bench:", err)
		return exitFailed
	}
}

// run executes one command line.
func run(ctx context.Context, args []string, out, messages io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(messages, usage)
		return fmt.Errorf("%w: no command", errUsage)
	}
	switch args[0] {
	case "load":
		return runLoad(ctx, args[1:], out, messages)
	case "compare":
		return runCompare(ctx, args[1:], out, messages)
	case "echo":
		return runEcho(ctx, args[1:], out, messages)
	default:
		fmt.Fprint(messages, usage)
		return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
	}
}

// parse reads the flags of a command, which takes nothing else.
func parse(flags *flag.FlagSet, args []string, messages io.Writer) error {
	flags.SetOutput(messages)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errUsage, err)
	case flags.NArg() > 0:
		return fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	}
	return nil
}

func runLoad(ctx context.Context, args []string, out, messages io.Writer) error {
	var l load
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	l.flags(flags)
	if err := parse(flags, args, messages); err != nil {
		return err
	}
	if err := l.check(); err != nil {
		return err
	}
	r, err := l.run(ctx)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return err
	}
	return r.err()
}

func runEcho(ctx context.Context, args []string, out, messages io.Writer) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	addr := flags.String("listen", "127.0.0.1:0", "where to listen, host:port or unix:/path; the address is printed")
	reply := flags.String("reply", "NOTFOUND ", "what to answer")
	if err := parse(flags, args, messages); err != nil {
		return err
	}
	return serveEcho(ctx, *addr, *reply, out)
}
