// Command tlspolicyd answers Postfix's TLS policy map with the MTA-STS policies
// (RFC 8461) of domains, and knows when DANE (RFC 7672) goes before them.
//
// Here stand the command line and the wiring: what a command is called with,
// what it prints and with which code it exits, and how the daemon is put
// together. Rules of a protocol are elsewhere.
//
// Results go to standard output, messages to standard error. A command exits
// with 0 for yes, 1 for no, 2 for a usage error or when it cannot be known.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], config.DefaultPath, os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code. defaultConfig is the
// configuration that is read when none is named.
func run(ctx context.Context, args []string, defaultConfig string, in io.Reader, out, messages io.Writer) int {
	root := newRootCommand(&configFile{byDefault: defaultConfig})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(messages)
	return exitCode(root.ExecuteContext(ctx), messages)
}

// commands are all subcommands; to add one, add a line.
func commands(file *configFile) []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(file),
		newQueryCommand(file),
		newCheckCommand(file),
		newCacheCommand(file),
		newStatusCommand(file),
		newLintCommand(file),
		newConfigCommand(file),
		newVersionCommand(),
	}
}

func newRootCommand(file *configFile) *cobra.Command {
	root := &cobra.Command{
		Use:           "tlspolicyd",
		Short:         "MTA-STS for Postfix's TLS policy map",
		Version:       programVersion(),
		RunE:          group,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate(versionLine())
	file.addFlag(root)
	root.AddCommand(commands(file)...)
	return root
}
