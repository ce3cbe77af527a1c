package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/config"
	"tlspolicyd/internal/printable"
)

// dialAdmin returns a client for the daemon of the configuration.
func dialAdmin(file *configFile) (*admin.Client, error) {
	c, err := file.load()
	if err != nil {
		return nil, err
	}
	return adminClient(c)
}

func adminClient(c *config.Config) (*admin.Client, error) {
	path, err := adminSocket(c)
	switch {
	case errors.Is(err, config.ErrNoDirectory):
		path = systemSocket // who has no place for a daemon of his own has none
	case err != nil:
		return nil, err
	case c.Admin.Socket == "":
		path = socketToAsk(path, systemSocket)
	}
	return admin.NewClient(path), nil
}

// systemSocket is the admin socket of the daemon that the packages install.
const systemSocket = "/run/tlspolicyd/admin.sock"

// socketToAsk returns the socket of a daemon of the user's own, or that of the
// system's daemon if there is no other: so that who may not open it is told so, and
// not of a path that nobody uses.
func socketToAsk(own, system string) string {
	for _, path := range []string{own, system} {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return own
}

// asking runs a command that asks the daemon, and adds to an error what can be
// done about it.
func asking(file *configFile, ask func(cmd *cobra.Command, c *admin.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := dialAdmin(file)
		if err != nil {
			return err
		}
		defer c.Close()
		err = ask(cmd, c, args)
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%w\nonly root and the daemon's own user may ask it: sudo %s", err, strings.Join(append([]string{cmd.CommandPath()}, args...), " "))
		}
		if errors.Is(err, admin.ErrUnreachable) {
			return fmt.Errorf("%w\nthe daemon has to run, with the same admin.socket in its configuration (see --config); only root and the daemon's own user may ask it", err)
		}
		return err
	}
}

// sheet is what a command prints: lines of a label and a text, aligned.
type sheet struct {
	*bufio.Writer
	now  time.Time
	zone *time.Location
}

// newSheet returns a sheet on which times are told from now on, in the zone of
// the machine.
func newSheet(out io.Writer, now time.Time) *sheet {
	return &sheet{Writer: bufio.NewWriter(out), now: now, zone: time.Local}
}

// labelWidth is the width of the labels; a text begins after it.
const labelWidth = 12

// line prints a label and a text that may come from anywhere.
func (p *sheet) line(label, format string, args ...any) {
	fmt.Fprintf(p, "%-*s  %s\n", labelWidth, label, printable.Line(fmt.Sprintf(format, args...)))
}

// at says when something is, absolutely and from now on.
func (p *sheet) at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%s (%s)", t.In(p.zone).Format("2006-01-02 15:04:05 MST"), relative(t.Sub(p.now)))
}

// relative says how far away a time is, as "in 3 h" or "5 min ago".
func relative(d time.Duration) string {
	switch text := roughly(d.Abs()); {
	case d.Abs() < time.Second:
		return "now"
	case d < 0:
		return text + " ago"
	default:
		return "in " + text
	}
}

// roughly says how long something is, in one unit.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	in := func(unit time.Duration, name string) string {
		return fmt.Sprintf("%d %s", d.Round(unit)/unit, name)
	}
	switch {
	case d < 2*time.Minute:
		return in(time.Second, "s")
	case d < 2*time.Hour:
		return in(time.Minute, "min")
	case d < 2*day:
		return in(time.Hour, "h")
	default:
		return in(day, "d")
	}
}

// bytesOf says how much n bytes are.
func bytesOf(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	size, prefixes := float64(n)/unit, "KMGTPE"
	for size >= unit && len(prefixes) > 1 {
		size, prefixes = size/unit, prefixes[1:]
	}
	return fmt.Sprintf("%.1f %ciB", size, prefixes[0])
}

// plural returns "1 policy" or "2 policies".
func plural[T int | int64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printJSON prints an object over several lines.
func printJSON(out io.Writer, v any) error {
	_, err := io.WriteString(out, printable.JSON(v))
	return err
}

// domainArgument wants one domain.
func domainArgument(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError(cmd, "there is no domain")
	case len(args) > 1:
		return usageError(cmd, "%q is one argument too many", args[1])
	case strings.TrimSpace(args[0]) == "":
		return usageError(cmd, "the domain is empty")
	default:
		return nil
	}
}

func addJSONFlag(cmd *cobra.Command, asJSON *bool, what string) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print "+what)
}
