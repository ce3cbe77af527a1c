package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// maxLint is the most bytes of a file that lint reads: one more than any policy
// has, so that too much is seen to be too much.
const maxLint = 64<<10 + 1

// lint is what the command lint found.
type lint struct {
	name     string
	policy   *policy.STSPolicy
	findings []mtasts.Finding
	domain   policy.Domain
	now      time.Time
}

func newLintCommand(file *configFile) *cobra.Command {
	var domain string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lint FILE|URL|-",
		Short: "Check an MTA-STS policy before you publish it",
		Long: "Check the policy in FILE, at URL, or on standard input, against RFC 8461. Prints what is wrong\n" +
			"or unwise, each with line and column, and, if the policy is good, the DNS records that\n" +
			"announce it. A URL is fetched as the daemon fetches it, and must be the one at which mail\n" +
			"servers look for the policy.\n\n" +
			"Exits with 0 if the policy is within the grammar, 1 if not, 2 if it cannot be read.",
		Example: "  tlspolicyd lint --domain example.com mta-sts.txt\n" +
			"  tlspolicyd lint https://mta-sts.example.com/.well-known/mta-sts.txt",
		Args: lintArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			read := func() (string, error) { return readPolicy(args[0], cmd.InOrStdin()) }
			if isURL(args[0]) {
				at, err := policyDomain(args[0])
				if err != nil {
					return usageError(cmd, "%w", err)
				}
				read = func() (string, error) { return readURL(cmd.Context(), file, at) }
				if !cmd.Flags().Changed("domain") {
					domain = at.String()
				}
			}
			l, err := newLint(args[0], domain, read)
			if err != nil {
				return err
			}
			text := l.text
			if asJSON {
				text = l.json
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text()); err != nil {
				return err
			}
			return answer(l.code())
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "example.com", "the `DOMAIN` whose policy it is, for the DNS records")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func lintArguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError(cmd, "there is no file to check; - is standard input")
	case len(args) > 1:
		return usageError(cmd, "%q is one argument too many", args[1])
	default:
		return nil
	}
}

// isURL reports whether a name is not meant as that of a file.
func isURL(name string) bool { return strings.Contains(name, "://") }

func newLint(name, domain string, read func() (string, error)) (*lint, error) {
	d, err := policy.ParseDomain(domain)
	if err != nil {
		return nil, fmt.Errorf("--domain: %w", err)
	}
	text, err := read()
	if err != nil {
		return nil, err
	}
	if name == "-" {
		name = "<stdin>"
	}
	l := &lint{name: name, domain: d, now: time.Now()}
	l.policy, l.findings = mtasts.CheckPolicy(text)
	return l, nil
}

func readPolicy(name string, in io.Reader) (string, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("reading the policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxLint))
	if err != nil {
		return "", fmt.Errorf("reading the policy: %w", err)
	}
	return string(text), nil
}

// worst returns the worst severity among the findings. Notes are no fault.
func (l *lint) worst() mtasts.Severity {
	worst := mtasts.SeverityNote
	for _, f := range l.findings {
		worst = min(worst, f.Severity)
	}
	return worst
}

// verdict says in one word and in a sentence what becomes of the policy.
func (l *lint) verdict() (word, sentence string) {
	switch l.worst() {
	case mtasts.SeverityError:
		return "refused", "mail servers refuse this policy: mail to the domain is not protected by it"
	case mtasts.SeverityLenient:
		return "lenient", "tlspolicyd takes this policy, other mail servers may refuse it"
	default:
		return "good", "the policy is within the grammar"
	}
}

func (l *lint) code() int {
	if l.worst() < mtasts.SeverityNote {
		return exitNo
	}
	return exitYes
}

// records are the DNS records to add, if the policy is good.
func (l *lint) records() []string {
	if l.code() != exitYes {
		return nil
	}
	return mtasts.RecordsFor(l.now, l.domain)
}

// text returns the findings as compilers print theirs, the verdict, and the
// records as lines of a zone file.
func (l *lint) text() string {
	var b strings.Builder
	for _, f := range l.findings {
		l.finding(&b, f)
	}
	_, sentence := l.verdict()
	fmt.Fprintf(&b, "%s: %s\n", l.name, sentence)
	if p := l.policy; p != nil {
		fmt.Fprintf(&b, "%s: mode %s, max_age %d, %d mx\n", l.name, p.Mode, int64(p.MaxAge/time.Second), len(p.MX))
	}
	if records := l.records(); len(records) > 0 {
		fmt.Fprintf(&b, "\n; Publish it as https://mta-sts.%s/.well-known/mta-sts.txt, then add\n", l.domain)
		b.WriteString("; these records; a new policy needs a new id.\n")
		b.WriteString(strings.Join(records, "\n") + "\n")
	}
	return b.String()
}

func (l *lint) finding(b *strings.Builder, f mtasts.Finding) {
	b.WriteString(l.name)
	if f.Line > 0 {
		fmt.Fprintf(b, ":%d:%d", f.Line, f.Column)
	}
	fmt.Fprintf(b, ": %s: ", f.Severity)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	if f.Text != "" {
		fmt.Fprintf(b, "%q: ", f.Text)
	}
	b.WriteString(f.Reason + "\n")
	if f.Suggestion != "" {
		fmt.Fprintf(b, "\tinstead: %s\n", f.Suggestion)
	}
}

// The JSON object that lint prints. Its names are an interface.
type (
	lintJSON struct {
		File     string        `json:"file"`
		Verdict  string        `json:"verdict"`
		Policy   *policyJSON   `json:"policy"`
		Findings []findingJSON `json:"findings"`
		Records  []string      `json:"records"`
	}
	policyJSON struct {
		Mode   string   `json:"mode"`
		MaxAge int64    `json:"max_age"`
		MX     []string `json:"mx"`
	}
	findingJSON struct {
		Line       int    `json:"line"`
		Column     int    `json:"column"`
		Severity   string `json:"severity"`
		Key        string `json:"key"`
		Text       string `json:"text"`
		Reason     string `json:"reason"`
		Suggestion string `json:"suggestion"`
	}
)

func (l *lint) json() string {
	word, _ := l.verdict()
	object := lintJSON{File: l.name, Verdict: word, Findings: []findingJSON{}, Records: append([]string{}, l.records()...)}
	if p := l.policy; p != nil {
		object.Policy = &policyJSON{Mode: p.Mode.String(), MaxAge: int64(p.MaxAge / time.Second), MX: []string{}}
		for _, mx := range p.MX {
			object.Policy.MX = append(object.Policy.MX, mx.String())
		}
	}
	for _, f := range l.findings {
		object.Findings = append(object.Findings, findingJSON{
			f.Line, f.Column, f.Severity.String(), f.Key, f.Text, f.Reason, f.Suggestion,
		})
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(object); err != nil {
		panic(err) // strings and numbers only
	}
	return b.String()
}
