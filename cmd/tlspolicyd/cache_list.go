package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/admin"
)

func newCacheListCommand(file *configFile) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the domains in the daemon's store",
		Long: "List the domains in the daemon's store, in the order of their names: what is known\n" +
			"beyond memory. With --json each line is an object.\n\n" +
			"Exits with 0, or with 2 if the daemon cannot be asked.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			print := printRow
			if asJSON {
				print = printRowJSON
			}
			for after := ""; ; {
				page, err := c.List(cmd.Context(), after)
				if err != nil {
					return err
				}
				if after == "" && !asJSON {
					printHeader(out)
				}
				now := time.Now()
				for i := range page.Domains {
					if err := print(out, now, &page.Domains[i]); err != nil {
						return err
					}
				}
				if err := out.Flush(); err != nil {
					return err
				}
				if after = page.Next; after == "" {
					return nil
				}
			}
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object on each line")
	return cmd
}

// rowFormat has the columns of the list; what is longer than its column moves
// the others.
const rowFormat = "%-30s %-10s %-20s %-10s %-32s %-10s %s\n"

func printHeader(out io.Writer) {
	fmt.Fprintf(out, rowFormat, "DOMAIN", "MODE", "ID", "FETCHED", "EXPIRES", "REFRESH", "USED")
}

func printRow(out io.Writer, now time.Time, r *admin.Row) error {
	from := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return relative(t.Sub(now).Round(time.Second))
	}
	expires := "-"
	if !r.Expires.IsZero() {
		expires = r.Expires.Local().Format("2006-01-02 15:04 MST") + " " + from(r.Expires)
	}
	refresh := from(r.Refresh)
	if !r.Refresh.IsZero() && r.Refresh.Before(now) {
		refresh = "due"
	}
	_, err := fmt.Fprintf(out, rowFormat, onOneLine(r.Domain), orDash(r.Mode), orDash(onOneLine(r.ID)),
		from(r.Fetched), expires, refresh, from(r.Used))
	return err
}

func printRowJSON(out io.Writer, _ time.Time, r *admin.Row) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
