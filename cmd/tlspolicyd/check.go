package main

import (
	"context"
	"io"
	"net"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"tlspolicyd/internal/check"
	"tlspolicyd/internal/config"
	"tlspolicyd/resolver/dane"
	"tlspolicyd/resolver/dnstrace"
	"tlspolicyd/socketmap/policymap"
)

// checkFlags are what the command check may be told.
type checkFlags struct{ json, smtp bool }

func newCheckCommand(file *configFile) *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:   "check [--smtp] [--json] DOMAIN",
		Short: "Explain what becomes of mail to a domain, and why",
		Long: "Look at a domain, or a next-hop such as [mail.example.com]:587, now and step by step, with\n" +
			"the code of the daemon, and explain what becomes of mail to it: the verdict first, then why,\n" +
			"what the daemon answers, every lookup, the policy with remarks on its lines, the mail hosts,\n" +
			"what main.cf lacks, and the line that excepts the domain. No daemon is needed; what a running\n" +
			"one remembers is taken into account if its admin socket can be read. With --smtp every mail\n" +
			"host is asked for STARTTLS and its certificate, which is judged as Postfix would.\n\n" +
			"Exits with 0 if mail to the domain is authenticated, 1 if it is not, or is not delivered,\n" +
			"or if the daemon does not look at such a key, 2 if it cannot be known. The code is about the domain: what keeps Postfix on this machine from\n" +
			"doing as the daemon answers is told among the first lines, and changes nothing of the code.",
		Example: "  tlspolicyd check example.com\n" +
			"  tlspolicyd check --smtp '[smtp.example.net]:587'",
		Args: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usageError(cmd, "there is no domain to check")
			case 1:
				return nil
			default:
				return usageError(cmd, "%q is one argument too many", args[1])
			}
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := file.load()
			if err != nil {
				return err
			}
			report, err := runCheck(cmd, c, args[0], flags)
			if err != nil {
				return err
			}
			text := report.Text
			if flags.json {
				text = report.JSON
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text()); err != nil {
				return err
			}
			return answer(checkCode(report.Conclusion.Outcome))
		},
	}
	cmd.Flags().BoolVar(&flags.json, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&flags.smtp, "smtp", false, "ask every mail host for STARTTLS and its certificate")
	return cmd
}

// runCheck looks at the next-hop that key names.
func runCheck(cmd *cobra.Command, c *config.Config, key string, flags checkFlags) (*check.Report, error) {
	o, err := checkOptions(c)
	if err != nil {
		return nil, err
	}
	hop, err := policymap.ParseKey(key, policymap.KeyRules{NoSmartHosts: !c.SmartHosts})
	if err != nil {
		return check.New(o).Unasked(cmd.Context(), key, err), nil
	}
	if flags.smtp {
		o.Prober = newProber(cmd.Context(), o.Postconf)
	}
	return check.New(o).Run(cmd.Context(), key, hop), nil
}

// checkOptions puts a checker together as the daemon would be, with a recorder
// in between.
func checkOptions(c *config.Config) (check.Options, error) {
	client, err := newDNS(c, nil, zap.NewNop())
	if err != nil {
		return check.Options{}, err
	}
	recorder := dnstrace.New(client)
	sts, err := newSTS(c, recorder, nil, zap.NewNop())
	if err != nil {
		return check.Options{}, err
	}
	o := check.Options{
		STS: sts, DANE: dane.New(recorder), DNS: recorder, Servers: client,
		NoDANE: !c.DANE.Enabled, Postconf: check.RunPostconf, Daemon: daemonView{c}, Dial: new(net.Dialer).DialContext, ReadFile: os.ReadFile,
	}
	for _, l := range c.Listen {
		o.Listen = append(o.Listen, l.String())
	}
	return o, nil
}

// newProber makes what talks to mail hosts, with the authorities that Postfix
// trusts, and under its name. Without Postfix the name is that of the machine.
func newProber(ctx context.Context, postconf check.Postconf) *check.Prober {
	p := &check.Prober{Roots: check.PostfixRoots(ctx, postconf), Name: check.PostfixName(ctx, postconf)}
	if name, err := os.Hostname(); err == nil && p.Name == "" {
		p.Name = name
	}
	return p
}

func checkCode(o check.Outcome) int {
	switch o {
	case check.Authenticated:
		return exitYes
	case check.Unknown:
		return exitUnknown
	default:
		return exitNo
	}
}
