package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Show returns the configuration as the text of a file, every key with its
// value and a comment. [Parse] makes an equal configuration of it.
func (c *Config) Show() string {
	var b strings.Builder
	var open []string
	for _, k := range keys {
		path := strings.Split(k.name, ".")
		sections, name := path[:len(path)-1], path[len(path)-1]
		for depth, s := range sections {
			if depth >= len(open) || open[depth] != s {
				fmt.Fprintf(&b, "%s%s:\n", indent(depth), s)
				open = sections[:depth+1]
			}
		}
		open = sections
		fmt.Fprintf(&b, "%-35s # %s\n", indent(len(sections))+name+": "+k.value.show(c), k.comment)
	}
	return b.String()
}

func indent(depth int) string { return strings.Repeat("  ", depth) }

// quote writes text as a scalar of YAML.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func formatAddress(a Address) string {
	if strings.Trim(a.Written, hostLetters+".:/") != "" || strings.HasPrefix(a.Written, ":") || a.Written == "" {
		return quote(a.Written)
	}
	return a.Written
}

func formatServer(a netip.AddrPort) string { return quote(a.String()) }

func formatNetwork(p netip.Prefix) string {
	if p.Addr().Is4() {
		return p.String()
	}
	return quote(p.String())
}

func formatWord[T ~string](w T) string { return string(w) }
