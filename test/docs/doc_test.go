// Package docs_test holds the documents to what the program does: every command
// and every configuration in README.md and docs/*.md is run or read here, every
// link leads somewhere, and every test that a page names exists.
//
// What stands in a fenced block is recognised by its language or by how it
// looks, see [kindOf]. What cannot be run on the way to here (systemd, package
// managers) is listed, with the reason, by "go test -v".
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the top of the project.
const root = "../.."

// page is a document.
type page struct {
	name   string // from the top, with slashes
	text   string // without the blocks
	blocks []block
}

// block is what stands between two fences.
type block struct {
	page string
	line int // of the fence
	lang string
	text string
}

// pages reads all documents.
func pages(t *testing.T) []page {
	t.Helper()
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []page
	for _, file := range append([]string{root + "/README.md"}, files...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p := readPage(strings.TrimPrefix(filepath.ToSlash(file), root+"/"), string(text))
		if len(p.text) == 0 {
			t.Errorf("%s: nothing but blocks: is a fence missing?", p.name)
		}
		all = append(all, p)
	}
	return all
}

// readPage parts the blocks of a page from the rest.
func readPage(name, text string) page {
	p := page{name: name}
	var open *block
	n := 0
	for line := range strings.Lines(text) {
		n++
		fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case isFence && open == nil:
			open = &block{page: name, line: n, lang: fence}
		case isFence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			p.text += line
		}
	}
	return p
}

// kind is what a block holds.
type kind string

// The kinds of blocks.
const (
	shell   kind = "commands"
	yaml    kind = "YAML"
	mainCF  kind = "main.cf"
	table   kind = "a table of Postfix"
	unit    kind = "a part of a systemd unit"
	unbound kind = "configuration of Unbound"
	text    kind = "neither a command nor a configuration"
)

var (
	setting   = regexp.MustCompile(`(?m)^(smtp|smtpd|tls|transport|proxy|relay)_[a-z0-9_]+ *=`)
	section   = regexp.MustCompile(`(?m)^\[[A-Z][a-z]+\]$`)
	tablePath = regexp.MustCompile(`^# (/etc/postfix/[a-z_]+)`)
	clause    = regexp.MustCompile(`(?m)^(server|remote-control|forward-zone|stub-zone):`)
)

// kindOf tells what a block holds.
func (b block) kind() kind {
	switch b.lang {
	case "sh", "shell", "bash", "console":
		return shell
	case "yaml":
		return yaml
	case "main.cf":
		return mainCF
	case "unbound":
		return unbound
	case "":
	default:
		return text
	}
	switch {
	case section.MatchString(b.text):
		return unit
	case tablePath.MatchString(b.text):
		return table
	case clause.MatchString(b.text):
		return unbound
	case len(b.commands()) > 0:
		return shell
	case setting.MatchString(b.text):
		return mainCF
	default:
		return text
	}
}

// programs are those that a line of a block may begin with, to be a command.
var programs = []string{"tlspolicyd", "bin/tlspolicyd", "make", "postconf", "postfix", "postqueue", "postmap",
	"systemctl", "journalctl", "apt", "dnf", "curl", "dig", "unbound-checkconf"}

// commands returns the command lines of a block. If there is one with a prompt,
// all others are what was printed.
func (b block) commands() []string {
	var plain, prompted []string
	for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		command, root := strings.CutPrefix(line, "# ")
		command, user := strings.CutPrefix(command, "$ ")
		command, _, _ = strings.Cut(command, "  #")
		command, _, _ = strings.Cut(command, " # ")
		name, _, _ := strings.Cut(command, " ")
		if !known(name) {
			continue
		}
		if root || user {
			prompted = append(prompted, command)
		}
		plain = append(plain, strings.TrimSpace(command))
	}
	if len(prompted) > 0 {
		return prompted
	}
	return plain
}

func known(program string) bool {
	for _, p := range programs {
		if p == program {
			return true
		}
	}
	return false
}

// leftOut says what was not run, for who asks with "go test -v".
func (b block) leftOut(t *testing.T, what, why string) {
	t.Helper()
	t.Logf("left out: %s:%d: %s: %s", b.page, b.line, what, why)
}
