package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/printable"
	"tlspolicyd/socketmap"
)

// query is what the command query asks.
type query struct {
	addr, mapName string
	keys          []string
}

func newQueryCommand(file *configFile) *cobra.Command {
	var q query
	cmd := &cobra.Command{
		Use:   "query [--map MAP] [--addr ADDRESS] KEY...",
		Short: "Ask a running daemon, as Postfix does",
		Long: "Ask a running daemon for the policies of next-hops, as Postfix does, and print its\n" +
			"replies, one per line, in order.\n\n" +
			"Exits with 0 if there is a policy for every key, 1 if there is none for some, 2 if\n" +
			"the daemon cannot be asked or cannot know.",
		Example: "  tlspolicyd query example.com '[smtp.example.net]:587'\n" +
			"  tlspolicyd query --map policy-tlsrpt --addr unix:/run/tlspolicyd/socket example.com",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(cmd, "there is no key to ask for")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.keys = args
			if err := q.complete(file); err != nil {
				return err
			}
			return q.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&q.mapName, "map", "policy", "name of the `MAP`")
	cmd.Flags().StringVar(&q.addr, "addr", "", "`ADDRESS` of the daemon, host:port or unix:/path (default: the first of the configuration)")
	completeMap := cobra.FixedCompletions([]string{"policy", "policy-tlsrpt", "policy-dane", "policy-dane-tlsrpt", "postfix"}, cobra.ShellCompDirectiveNoFileComp)
	if err := cmd.RegisterFlagCompletionFunc("map", completeMap); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// complete takes from the configuration what the command line does not say. A
// configuration that is named is read in any case, so that a bad name does not
// go unnoticed.
func (q *query) complete(file *configFile) error {
	if q.addr != "" && !file.named() {
		return nil
	}
	c, err := file.load()
	if err != nil {
		return err
	}
	if q.addr != "" {
		return nil
	}
	if len(c.Listen) == 0 {
		return fmt.Errorf("%s names no address to ask: say which with --addr", file.path())
	}
	q.addr = c.Listen[0].String()
	return nil
}

// run asks for one key after the other and prints the replies. The worst of
// them makes the exit code.
func (q *query) run(ctx context.Context, out io.Writer) error {
	client, err := socketmap.Dial(ctx, q.addr)
	if err != nil {
		return err
	}
	defer client.Close()
	code := exitYes
	for _, key := range q.keys {
		reply, err := client.Lookup(ctx, q.mapName, key)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, printable.Line(reply.String())); err != nil {
			return err
		}
		code = max(code, codeOf(reply.Status))
	}
	return answer(code)
}

func codeOf(s socketmap.Status) int {
	switch s {
	case socketmap.OK:
		return exitYes
	case socketmap.NotFound:
		return exitNo
	default:
		return exitUnknown
	}
}
