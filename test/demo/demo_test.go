//go:build e2e

// Package demo_test is the demonstration, "make demo": an attacker between a
// relay and the mail hosts of other domains, seen by a Postfix without
// tlspolicyd and by one with it. It prints what happened as a table.
//
// It is a test as well: each outcome must be the one that its row says, and the
// table in the README must be the one that came out.
package demo_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"tlspolicyd/test/lab"
)

// width is how many characters a line of the table may have.
const width = 120

func TestMain(m *testing.M) { lab.Main(m) }

// TestDemo plays every row, prints the table and compares the README's.
func TestDemo(t *testing.T) {
	s := newStage(t)
	var results []result
	for _, r := range rows() {
		t.Run(r.domain, func(t *testing.T) {
			results = append(results, s.play(t, r))
		})
	}
	if t.Failed() {
		return
	}
	text := inText(results)
	fmt.Print(text)
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("a line has %d characters, more than %d: %s", n, width, line)
		}
	}
	t.Run("README", func(t *testing.T) { checkReadme(t, results) })
}

// checkReadme: the README shows what has just happened.
func checkReadme(t *testing.T, results []result) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, sentence := range summary(results) {
		// Lines are broken anywhere.
		if !strings.Contains(strings.Join(strings.Fields(string(readme)), " "), sentence) {
			t.Errorf("the README does not say %q", sentence)
		}
	}
	want := inMarkdown(results)
	_, table, _ := strings.Cut(string(readme), "\n"+want[0]+"\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !slices.Equal(strings.Split(table, "\n"), want[1:]) {
		t.Errorf("the table in the README is not what happened, which is\n\n%s\n", strings.Join(want, "\n"))
	}
}
