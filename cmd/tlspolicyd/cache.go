package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/admin"
	"tlspolicyd/internal/printable"
	"tlspolicyd/resolver/policy"
)

func newCacheCommand(file *configFile) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Ask a running daemon what it knows of domains, and have it refresh or forget them",
		Long: "Ask a running daemon, through its admin socket, what it knows of domains, and have it\n" +
			"refresh or forget them. Only root and the daemon's own user may do so.",
		RunE: group,
		Args: cobra.ArbitraryArgs,
	}
	cmd.AddCommand(
		newCacheListCommand(file),
		newCacheShowCommand(file),
		newCacheRefreshCommand(file),
		newCachePurgeCommand(file),
		newCacheStatsCommand(file),
	)
	return cmd
}

func newCacheShowCommand(file *configFile) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show DOMAIN",
		Short: "Show all that is known of a domain, and what happens to it next",
		Long: "Show all that the daemon knows of a domain: its policy, the last look at its TXT\n" +
			"record, the last failure, its MX hosts, what the store holds, what is being done and\n" +
			"what comes next, with all times. Nothing is looked up for it.\n\n" +
			"Exits with 0 if anything is known, 1 if not, 2 if the daemon cannot be asked.",
		Args:              domainArgument,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, args []string) error {
			d, err := c.Show(cmd.Context(), args[0])
			if errors.Is(err, admin.ErrNotKnown) {
				return notKnown(cmd, args[0], asJSON, admin.Domain{Domain: nameOf(args[0]), Now: time.Now().UTC().Truncate(time.Second)})
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), d)
			}
			p := newSheet(cmd.OutOrStdout(), d.Now)
			p.domain(&d)
			return p.Flush()
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object")
	return cmd
}

func newCacheRefreshCommand(file *configFile) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "refresh DOMAIN",
		Short: "Look at a domain's TXT record and fetch its policy now",
		Long: "Have the daemon look at the TXT record of a domain and fetch its policy now, due or\n" +
			"not, and wait for the end. The five minutes after a failed fetch do not matter here;\n" +
			"but nothing is fetched within cache.recheck of the last fetch. A failure leaves in force\n" +
			"what was in force.\n\n" +
			"Exits with 0 if the policy is as its domain publishes it, 1 if the domain publishes\n" +
			"none, 2 if that cannot be known.",
		Args:              domainArgument,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, args []string) error {
			r, err := c.Refresh(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				p := newSheet(cmd.OutOrStdout(), r.Now)
				p.refreshed(&r)
				err = p.Flush()
			}
			if err != nil {
				return err
			}
			return answer(refreshCode(&r))
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object")
	return cmd
}

// The results of a refresh that mean more than "it cannot be known".
const (
	resultFetched = "fetched"
	resultAbsent  = "absent"
	resultTooSoon = "too soon"
	resultFailed  = "failed"
)

func refreshCode(r *admin.Refreshed) int {
	switch {
	case r.Result == resultFetched:
		return exitYes
	case r.Result == resultTooSoon && r.Failure == nil && r.Policy != nil && r.Policy.InForce:
		return exitYes
	case r.Result == resultAbsent:
		return exitNo
	default:
		return exitUnknown
	}
}

func newCachePurgeCommand(file *configFile) *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "purge DOMAIN|--all",
		Short: "Have the daemon forget a domain, or all of them",
		Long: "Have the daemon forget all that it knows of a domain, in memory and in its store, and\n" +
			"what it is finding out about it at the moment, and remove it from the store that relays\n" +
			"share. The next mail to the domain is the first one: until then nothing protects it\n" +
			"from an attacker who hides its policy.\n\n" +
			"Exits with 0 if it was forgotten, 1 if nothing was known, 2 if the daemon cannot be\n" +
			"asked, or could not do all of it. Then nothing was forgotten of the domain, unless the\n" +
			"message says \"purged here\": that is done, and only the shared store is yet to follow.",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case !all:
				return domainArgument(cmd, args)
			case len(args) > 0:
				return usageError(cmd, "either a domain or --all, not both")
			default:
				return nil
			}
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, args []string) error {
			if all {
				return purgeAll(cmd, c, asJSON)
			}
			r, err := c.Purge(cmd.Context(), args[0])
			if errors.Is(err, admin.ErrNotKnown) {
				return notKnown(cmd, args[0], asJSON, admin.Purged{})
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: forgotten\n", nameOf(args[0]))
			return err
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "forget every domain")
	addJSONFlag(cmd, &asJSON, "one JSON object")
	return cmd
}

func purgeAll(cmd *cobra.Command, c *admin.Client, asJSON bool) error {
	r, err := c.PurgeAll(cmd.Context())
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s forgotten\n", plural(r.Purged, "domain", "domains"))
	return err
}

// notKnown prints that nothing is known of a domain, which is a result.
func notKnown(cmd *cobra.Command, name string, asJSON bool, v any) error {
	var err error
	if asJSON {
		err = printJSON(cmd.OutOrStdout(), v)
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing is known of it\n", nameOf(name))
	}
	if err != nil {
		return err
	}
	return answer(exitNo)
}

// nameOf returns a domain as the daemon writes it.
func nameOf(s string) string {
	d, err := policy.ParseDomain(s)
	if err != nil {
		return printable.Line(s)
	}
	return d.String()
}
