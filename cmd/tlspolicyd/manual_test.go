package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tlspolicyd/internal/config"
)

const (
	manual       = "../../packaging/man/tlspolicyd.8"
	manualConfig = "../../packaging/man/tlspolicyd.yaml.5"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestManualKeys compares the keys and defaults of the manual with those that
// the configuration shows.
func TestManualKeys(t *testing.T) {
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\.It Sy (\S+) : Li (.*)$`).FindAllStringSubmatch(read(t, manualConfig), -1) {
		value := m[2]
		if inner, quoted := strings.CutPrefix(value, `"`); quoted {
			value = strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
		}
		got = append(got, m[1]+" = "+value)
	}
	want := shownKeys(config.Default().Show())
	if !slices.Equal(got, want) {
		t.Errorf("the manual says\n%s\nthe configuration\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// shownKeys lists the keys of a configuration with their values, "a.b = c".
func shownKeys(text string) []string {
	var keys, path []string
	line := regexp.MustCompile(`(?m)^( *)([a-z_]+):(?: (.*?))? *(?:#.*)?$`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		path = append(path[:len(m[1])/2:len(m[1])/2], m[2])
		if m[3] != "" {
			keys = append(keys, strings.Join(path, ".")+" = "+m[3])
		}
	}
	return keys
}

// TestManualCommands wants every command and every flag in the manual, and no
// others.
func TestManualCommands(t *testing.T) {
	var want []string
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			visit(sub)
		}
		if c.HasSubCommands() || !c.HasParent() {
			return
		}
		name := strings.TrimPrefix(c.CommandPath(), "tlspolicyd ")
		want = append(want, name)
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				want = append(want, name+" --"+f.Name)
			}
		})
	}
	visit(newRootCommand(&configFile{byDefault: config.DefaultPath}))
	want = append(want, "completion", "help") // those of the library
	var got []string
	commands := read(t, manual)
	begin, end := strings.Index(commands, ".Sh COMMANDS"), strings.Index(commands, ".Sh SIGNALS")
	for _, m := range regexp.MustCompile(`(?m)^\.It Ic ([a-z]+(?: [a-z]+)*)(.*)$`).FindAllStringSubmatch(commands[begin:end], -1) {
		got = append(got, m[1])
		for _, f := range regexp.MustCompile(`Fl -([a-z]+)`).FindAllStringSubmatch(m[2], -1) {
			got = append(got, m[1]+" --"+f[1])
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the manual knows\n%s\nthe program\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestDocumentedKeys wants every key of the configuration that a page of the
// documentation names to exist.
func TestDocumentedKeys(t *testing.T) {
	known := map[string]bool{}
	sections := map[string]bool{}
	for _, key := range shownKeys(config.Default().Show()) {
		name, _, _ := strings.Cut(key, " = ")
		known[name] = true
		section, _, _ := strings.Cut(name, ".")
		sections[section] = true
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	for _, page := range append(pages, "../../README.md", manual) {
		for _, m := range regexp.MustCompile("(?:`|Cm )([a-z]+)((?:\\.[a-z_]+)+)[`: \n]").FindAllStringSubmatch(read(t, page), -1) {
			if strings.HasSuffix(m[2], ".example") {
				continue // a domain
			}
			if sections[m[1]] && !known[m[1]+m[2]] && !known[m[1]+m[2]+".url"] {
				t.Errorf("%s names %s%s, which is no key", page, m[1], m[2])
			}
		}
	}
}
