package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tlspolicyd/internal/printable"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// maxPolicy is how many bytes a policy may have, and maxLint how many of a file
// are read: one more, so that too much is seen to be too much.
const (
	maxPolicy = 64 << 10
	maxLint   = maxPolicy + 1
)

// exampleDomain is the domain of a policy that is not said to be of another.
const exampleDomain = "example.com"

// lint is what the command lint found.
type lint struct {
	name     string
	policy   *policy.STSPolicy
	findings []mtasts.Finding
	domain   policy.Domain
	// at is the domain of a URL.
	at  policy.Domain
	now time.Time
	// err says why there is nothing to check; the rest is empty then.
	err error
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
			"Exits with 0 if the policy is within the grammar, 1 if not, 2 if it cannot be read or fetched,\n" +
			"whatever is in the way. Then the object of --json has the reason in \"error\".",
		Example: "  tlspolicyd lint --domain example.com mta-sts.txt\n" +
			"  tlspolicyd lint https://mta-sts.example.com/.well-known/mta-sts.txt",
		Args: lintArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("domain") {
				domain = ""
			}
			l, err := newLint(args[0], domain)
			if err == nil {
				l.look(cmd, file, args[0])
				return l.print(cmd.OutOrStdout(), asJSON)
			}
			l.err = err
			if asJSON {
				if _, err := io.WriteString(cmd.OutOrStdout(), l.json()); err != nil {
					return err
				}
			}
			return usageError(cmd, "%w", err)
		},
	}
	cmd.Flags().StringVar(&domain, "domain", exampleDomain, "the `DOMAIN` whose policy it is, for the DNS records")
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

// newLint prepares to check what is named on the command line. The domain of a
// URL is that of its policy, if no other is named.
func newLint(name, domain string) (l *lint, err error) {
	l = &lint{name: name, now: time.Now()}
	if name == "-" {
		l.name = "<stdin>"
	}
	if isURL(name) {
		if l.at, err = policyDomain(name); err != nil {
			return l, err
		}
		l.domain = l.at
	}
	if domain == "" && isURL(name) {
		return l, nil
	}
	if l.domain, err = policy.ParseDomain(cmp.Or(domain, exampleDomain)); err != nil {
		return l, fmt.Errorf("--domain: %w", err)
	}
	return l, nil
}

// look reads the policy that is named on the command line, and checks it.
func (l *lint) look(cmd *cobra.Command, file *configFile, name string) {
	var text string
	if isURL(name) {
		text, l.err = readURL(cmd.Context(), file, l.at)
	} else {
		text, l.err = readPolicy(name, cmd.InOrStdin())
	}
	if l.err == nil {
		l.check(text)
	}
}

// check finds what is wrong with a policy. What is no policy by far is told in
// one sentence.
func (l *lint) check(text string) {
	l.policy, l.findings = mtasts.CheckPolicy(text)
	f := mtasts.Finding{Severity: mtasts.SeverityError}
	switch {
	case l.policy != nil:
		return
	case strings.ContainsRune(text, 0):
		f.Reason = "the file is no text: it holds NUL bytes"
		f.Suggestion = "write the policy as plain text in UTF-8 or ASCII"
	case isBinary(text):
		f.Reason = "the file is no text: much of it is control characters, or bytes that are no UTF-8"
		f.Suggestion = "write the policy as plain text in UTF-8 or ASCII"
	case len(text) > maxPolicy:
		f.Reason = fmt.Sprintf("the file has more than %d bytes; mail servers need not read more", maxPolicy)
		f.Suggestion = "name the mail hosts by a wildcard, as in: mx: *.example.com"
	default:
		return
	}
	l.findings = []mtasts.Finding{f}
}

// isBinary reports whether more than a tenth of a text is nothing that people
// write.
func isBinary(text string) bool {
	odd := 0
	for _, c := range text {
		if c == utf8.RuneError || unicode.IsControl(c) && !strings.ContainsRune("\t\r\n", c) {
			odd++
		}
	}
	return odd > len(text)/10
}

// print prints the result, and returns what ends the program with its code.
// Without a policy the reason is a message, and for programs an object too.
func (l *lint) print(out io.Writer, asJSON bool) error {
	if l.err != nil && !asJSON {
		return l.err
	}
	text := l.text
	if asJSON {
		text = l.json
	}
	if _, err := io.WriteString(out, text()); err != nil {
		return err
	}
	if l.err != nil {
		return l.err
	}
	return answer(l.code())
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
	if l.err != nil {
		return "unknown", l.err.Error()
	}
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
	if l.err != nil || l.code() != exitYes {
		return nil
	}
	return mtasts.RecordsFor(l.now, l.domain)
}

// text returns the findings as compilers print theirs, the verdict, and the
// records as lines of a zone file. It holds printable characters only, but for
// the end of a line and the tab before a suggestion.
func (l *lint) text() string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(printable.Escape(fmt.Sprintf(format, args...)) + "\n")
	}
	for _, f := range l.findings {
		line("%s%s", l.name, describe(f))
		if f.Suggestion != "" {
			b.WriteByte('\t')
			line("instead: %s", f.Suggestion)
		}
	}
	_, sentence := l.verdict()
	line("%s: %s", l.name, sentence)
	if p := l.policy; p != nil {
		line("%s: mode %s, max_age %d, %d mx", l.name, p.Mode, int64(p.MaxAge/time.Second), len(p.MX))
	}
	if records := l.records(); len(records) > 0 {
		line("")
		line("; Publish it as %s, then add", mtasts.PolicyURL(l.domain))
		line("; these records; a new policy needs a new id.")
		for _, r := range records {
			line("%s", r)
		}
	}
	return b.String()
}

// describe says where a finding is and what it is about, after the name of the
// file.
func describe(f mtasts.Finding) string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	fmt.Fprintf(&b, ": %s: ", f.Severity)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	if f.Text != "" {
		fmt.Fprintf(&b, "%q: ", f.Text)
	}
	return b.String() + f.Reason
}

// The JSON object that lint prints. Its names are an interface.
type (
	lintJSON struct {
		File     string           `json:"file"`
		Verdict  string           `json:"verdict"`
		Error    string           `json:"error"`
		Policy   *policyJSON      `json:"policy"`
		Findings []mtasts.Finding `json:"findings"`
		Records  []string         `json:"records"`
	}
	policyJSON struct {
		Mode   string   `json:"mode"`
		MaxAge int64    `json:"max_age"`
		MX     []string `json:"mx"`
	}
)

func (l *lint) json() string {
	word, _ := l.verdict()
	object := lintJSON{File: l.name, Verdict: word, Findings: append([]mtasts.Finding{}, l.findings...), Records: append([]string{}, l.records()...)}
	if l.err != nil {
		object.Error = l.err.Error()
	}
	if p := l.policy; p != nil {
		object.Policy = &policyJSON{Mode: p.Mode.String(), MaxAge: int64(p.MaxAge / time.Second), MX: []string{}}
		for _, mx := range p.MX {
			object.Policy.MX = append(object.Policy.MX, mx.String())
		}
	}
	return printable.JSON(object)
}
