package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/admin"
)

func newStatusCommand(file *configFile) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask a running daemon how it is",
		Long: "Ask a running daemon, through its admin socket, how it is: where it listens, which DNS\n" +
			"servers it asks and whether they validate, how much it remembers, what it is behind\n" +
			"with, and the last error of its store.\n\n" +
			"Exits with 0, or with 2 if the daemon cannot be asked.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			p := newSheet(cmd.OutOrStdout(), s.Now)
			p.status(&s)
			return p.Flush()
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object")
	return cmd
}

func newCacheStatsCommand(file *configFile) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show how much the daemon remembers, and what it is behind with",
		Long: "Show how much the daemon remembers, and what it is behind with.\n\n" +
			"Exits with 0, or with 2 if the daemon cannot be asked.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: asking(file, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
			s, err := c.Stats(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), s)
			}
			p := newSheet(cmd.OutOrStdout(), time.Now())
			p.stats(&s)
			return p.Flush()
		}),
	}
	addJSONFlag(cmd, &asJSON, "one JSON object")
	return cmd
}

func (p *sheet) status(s *admin.Status) {
	p.line("version", "%s", s.Version)
	p.line("started", "%s", p.at(s.Started))
	p.line("listening", "%s", strings.Join(s.Listeners, ", "))
	p.line("DANE", "%s", daneWords(s))
	for _, d := range s.DNS {
		p.line("DNS server", "%s", p.server(&d))
	}
	p.stats(&s.Stats)
}

// daneWords says whether secure answers can be told from insecure ones.
func daneWords(s *admin.Status) string {
	tests := map[string]int{}
	for _, d := range s.DNS {
		tests[d.Test]++
	}
	switch {
	case !s.DANE:
		return "off (dane.enabled: false)"
	case tests["passed"] > 0:
		return "looked at"
	case tests["failed"] > 0:
		return "off: no DNS server validates, or may be believed that it does"
	case tests["silent"] > 0:
		return "not known: no DNS server answers"
	default:
		return "not known: the DNS servers are yet to be tested"
	}
}

func (p *sheet) server(d *admin.DNSServer) string {
	text := d.Address + ": " + d.Test
	if d.Detail != "" {
		text += ": " + d.Detail
	}
	if !d.Trusted {
		text += "; its AD bit does not count (see dns.trust_ad)"
	}
	if !d.Tested.IsZero() {
		text += "; tested " + p.at(d.Tested)
	}
	return text
}

func (p *sheet) stats(s *admin.Stats) {
	p.line("memory", "%s, %s", plural(s.Policies, "domain with a policy in force", "domains with a policy in force"),
		plural(s.Absences, "domain without", "domains without"))
	p.store(&s.Store)
	p.line("refresh", "%d overdue", s.Overdue)
	p.line("expiring", "%s past half of life that cannot be fetched again", plural(s.Expiring, "policy", "policies"))
	p.line("unwritten", "%s", plural(s.Unwritten, "record", "records"))
	if e := s.LastStoreError; e != nil {
		p.line("store error", "%s: %s: %s", p.at(e.At), e.Op, e.Error)
	} else {
		p.line("store error", "none since the start")
	}
	p.shared(s.Shared, s.Unshared)
}

// shared prints how the store of a fleet is, where there is one.
func (p *sheet) shared(s *admin.SharedStore, unshared int) {
	if s == nil {
		return
	}
	state := "out of reach"
	if s.Up {
		state = "in reach"
	}
	p.line("shared store", "%s: %s since %s; %s to be saved in it or removed from it", s.Address, state, p.at(s.Since), plural(unshared, "domain", "domains"))
	if s.Error != "" {
		p.line("", "last error: %s", s.Error)
	}
}

func (p *sheet) store(s *admin.StoreStats) {
	where := "in memory (cache.file: none)"
	if s.Kind == "file" {
		where = s.Path
	}
	if s.Error != "" {
		p.line("store", "%s: %s", where, s.Error)
		return
	}
	size := s.Bytes
	if s.File > 0 {
		size = s.File
	}
	p.line("store", "%s: %s, %s", where, plural(s.Policies, "policy", "policies"), plural(s.Failures, "failed fetch", "failed fetches"))
	p.line("", "%s of at most %s", bytesOf(size), bytesOf(s.Limit))
	if s.ReadOnly {
		p.line("", "it cannot be written to at present")
	}
	if s.Damaged > 0 {
		p.line("", "%s being copied", plural(s.Damaged, "damaged file is", "damaged files are"))
	}
}
