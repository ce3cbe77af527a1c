//go:build e2e

package demo_test

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// columns are the titles and widths of the table, 120 characters in all with
// two between them.
var columns = []struct {
	title string
	width int
}{
	{"domain", 12},
	{"publishes", 16},
	{"the attacker", 20},
	{"without tlspolicyd", 18},
	{"with it: the answer; what Postfix did; its log", 46},
}

// summary says in a sentence what is seen, and in another what remains.
func summary(results []result) []string {
	attacked, without, remain := 0, 0, []string{}
	for _, r := range results {
		if r.row.strike != nil {
			attacked++
		}
		if r.without.stolen() {
			without++
		}
		if r.with.stolen() {
			remain = append(remain, "one "+r.row.remains)
		}
	}
	return []string{
		fmt.Sprintf("Of %d mails under attack, the attacker gets %d without tlspolicyd, and %d with it.", attacked, without, len(remain)),
		fmt.Sprintf("Those %d go to domains: %s.", len(remain), strings.Join(remain, ", ")),
	}
}

// cells are those of a row, each in lines that begin anew.
func (o result) cells() [][]string {
	return [][]string{
		{o.row.domain}, {o.row.publishes}, {o.row.attack}, {string(o.without)},
		{o.policy, string(o.with), "“" + o.line + "”"},
	}
}

// inText returns the table for a terminal.
func inText(results []result) string {
	var b strings.Builder
	b.WriteString(strings.Join(summary(results), "\n") + "\n\n")
	titles, rules := make([][]string, len(columns)), make([][]string, len(columns))
	for i, c := range columns {
		titles[i], rules[i] = []string{c.title}, []string{strings.Repeat("-", c.width)}
	}
	writeRow(&b, titles)
	writeRow(&b, rules)
	for i, r := range results {
		if i > 0 {
			b.WriteString("\n")
		}
		writeRow(&b, r.cells())
	}
	return b.String()
}

// writeRow writes a row in as many lines as its longest cell needs.
func writeRow(b *strings.Builder, cells [][]string) {
	var wrapped [][]string
	height := 0
	for i, c := range cells {
		var lines []string
		for _, text := range c {
			lines = append(lines, wrap(text, columns[i].width)...)
		}
		wrapped, height = append(wrapped, lines), max(height, len(lines))
	}
	for n := range height {
		var line strings.Builder
		for i, lines := range wrapped {
			text := ""
			if n < len(lines) {
				text = lines[n]
			}
			line.WriteString(text + strings.Repeat(" ", columns[i].width-utf8.RuneCountInString(text)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// wrap breaks text into lines of a width, between words; what belongs to the
// same thing is moved in.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line+" "+word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), "  "+word
		}
	}
	return append(lines, line)
}

// inMarkdown returns the lines of the table for a document.
func inMarkdown(results []result) []string {
	var titles, rules []string
	for _, c := range columns {
		titles, rules = append(titles, c.title), append(rules, "---")
	}
	lines := []string{markdownRow(titles), "|" + strings.Join(rules, "|") + "|"}
	for _, r := range results {
		cells := []string{"`" + r.row.domain + "`", r.row.publishes, r.row.attack, string(r.without),
			"`" + r.policy + "`<br>" + string(r.with) + "<br>“" + r.line + "”"}
		lines = append(lines, markdownRow(cells))
	}
	return lines
}

func markdownRow(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }
