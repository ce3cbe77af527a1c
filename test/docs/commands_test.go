package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is a command that a document names: in a block, a sentence or a table.
type named struct {
	where string
	line  string
}

// between parts commands on one line.
var between = regexp.MustCompile(`\s*(?:;|&&|\|\|?|\$\(|\))\s*`)

// manualLine is how the manual pages mark a command, if at all.
var manualLine = regexp.MustCompile(`(?m)^(?:\.D[ql] )?(.*)$`)

// namedCommands returns every command for one of programs that the pages and the
// manual name, each by itself.
func namedCommands(t *testing.T, programs ...string) []named {
	t.Helper()
	var lines, all []named
	for _, p := range pages(t) {
		for _, m := range inline.FindAllStringSubmatch(p.text, -1) {
			lines = append(lines, named{p.name, m[1]})
		}
		for _, b := range p.blocks {
			for _, line := range b.commands() {
				lines = append(lines, named{p.name, line})
			}
		}
	}
	manual, err := filepath.Glob(root + "/packaging/man/*")
	if err != nil || len(manual) == 0 {
		t.Fatalf("manual pages: %q, %v", manual, err)
	}
	for _, file := range manual {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manualLine.FindAllStringSubmatch(string(text), -1) {
			lines = append(lines, named{filepath.Base(file), m[1]})
		}
	}
	for _, l := range lines {
		for _, clause := range between.Split(l.line, -1) {
			program, args, _ := strings.Cut(strings.TrimPrefix(clause, "bin/"), " ")
			if slices.Contains(programs, program) && args != "" {
				all = append(all, named{l.where, program + " " + args})
			}
		}
	}
	if len(all) < 10 {
		t.Errorf("only %d commands were found for %q", len(all), programs)
	}
	return all
}

var flagName = regexp.MustCompile(`--[a-z-]+`)

// Every command of the program that is named exists, with every option that is
// named with it.
func TestNamedCommands(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tlspolicyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, root+"/cmd/tlspolicyd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	help := func(words ...string) string {
		out, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", words, err, out)
		}
		return string(out)
	}
	known := map[string]string{}
	for _, c := range namedCommands(t, "tlspolicyd") {
		words := subcommand(strings.TrimPrefix(c.line, "tlspolicyd "))
		name := strings.Join(words, " ")
		if known[name] == "" {
			known[name] = help(words...)
		}
		if !strings.Contains(known[name], "\n  tlspolicyd "+name) {
			t.Errorf("%s: there is no command %q, see `%s`", c.where, name, c.line)
		}
		for _, flag := range flagName.FindAllString(c.line, -1) {
			if !strings.Contains(known[name], flag) {
				t.Errorf("%s: %q knows no %s, see `%s`", c.where, name, flag, c.line)
			}
		}
	}
}

// subcommand returns the words that name a command: one, or two where there are
// commands below.
func subcommand(line string) []string {
	words := strings.Fields(line)
	if len(words) > 1 && (words[0] == "cache" || words[0] == "config") {
		return words[:2]
	}
	return words[:1]
}

// otherUnits are units of other programs that the documents speak of.
var otherUnits = []string{"postfix-tlspol", "postfix-mta-sts-resolver"}

// Every command of systemd that is named is one, for units that there are, with
// options that it has.
func TestNamedCommandsOfSystemd(t *testing.T) {
	verbs := strings.Fields("edit enable disable mask unmask start stop restart reload status revert")
	options := strings.Fields("--now -u -p")
	for _, c := range namedCommands(t, "systemctl", "journalctl") {
		words := strings.Fields(c.line)
		program, words := words[0], words[1:]
		if program == "systemctl" {
			if !slices.Contains(verbs, words[0]) {
				t.Errorf("%s: systemctl knows no %q, see `%s`", c.where, words[0], c.line)
			}
			words = words[1:]
		}
		for i, word := range words {
			switch {
			case strings.HasPrefix(word, "-"):
				if !slices.Contains(options, word) {
					t.Errorf("%s: %s is not known to have %s, see `%s`", c.where, program, word, c.line)
				}
			case i > 0 && words[i-1] == "-p":
				if !slices.Contains([]string{"err", "warning"}, word) {
					t.Errorf("%s: there is no priority %q, see `%s`", c.where, word, c.line)
				}
			case !isUnit(word) && !slices.Contains(otherUnits, word):
				t.Errorf("%s: there is no unit %q, see `%s`", c.where, word, c.line)
			}
		}
	}
}

// isUnit reports whether the packages bring a unit of that name, which is one of a
// service where nothing else is said.
func isUnit(name string) bool {
	if filepath.Ext(name) == "" {
		name += ".service"
	}
	_, err := os.Stat(filepath.Join(root, "packaging/systemd", name))
	return err == nil
}

// Every target of make that is named is one.
func TestNamedTargets(t *testing.T) {
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range namedCommands(t, "make") {
		for _, word := range strings.Fields(c.line)[1:] {
			if !strings.Contains(word, "=") && !strings.Contains(string(makefile), "\n"+word+":") {
				t.Errorf("%s: make knows no %q, see `%s`", c.where, word, c.line)
			}
		}
	}
}
