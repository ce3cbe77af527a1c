package main

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/printable"
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
			l := list{Writer: bufio.NewWriter(cmd.OutOrStdout())}
			begin, row := l.header, l.row
			if asJSON {
				begin, row = func() {}, l.rowJSON
			}
			return l.pages(cmd.Context(), c, begin, row)
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object on each line")
	return cmd
}

// list is what the command list prints.
type list struct {
	*bufio.Writer
	now time.Time // of the page
}

// pages asks for one page after the other and prints each, so that neither side
// holds more than one.
func (l *list) pages(ctx context.Context, c *admin.Client, begin func(), row func(r *admin.Row) error) error {
	for after := ""; ; {
		page, err := c.List(ctx, after)
		if err != nil {
			return err
		}
		if after == "" {
			begin()
		}
		l.now = time.Now()
		for i := range page.Domains {
			if err := row(&page.Domains[i]); err != nil {
				return err
			}
		}
		if err := l.Flush(); err != nil {
			return err
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// rowFormat has the columns of the list; what is longer than its column moves
// the others.
const rowFormat = "%-30s %-10s %-20s %-10s %-32s %-10s %s\n"

func (l *list) header() {
	fmt.Fprintf(l, rowFormat, "DOMAIN", "MODE", "ID", "FETCHED", "EXPIRES", "REFRESH", "USED")
}

func (l *list) row(r *admin.Row) error {
	expires := "-"
	if !r.Expires.IsZero() {
		expires = r.Expires.Local().Format("2006-01-02 15:04 MST") + " " + l.from(r.Expires)
	}
	refresh := l.from(r.Refresh)
	if !r.Refresh.IsZero() && r.Refresh.Before(l.now) {
		refresh = "due"
	}
	_, err := fmt.Fprintf(l, rowFormat, printable.Line(r.Domain), orDash(r.Mode), orDash(printable.Line(r.ID)),
		l.from(r.Fetched), expires, refresh, l.from(r.Used))
	return err
}

// from says how far away a time is.
func (l *list) from(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return relative(t.Sub(l.now).Round(time.Second))
}

func (l *list) rowJSON(r *admin.Row) error {
	_, err := l.WriteString(printable.JSONLine(r))
	return err
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
