//go:build e2e

package packages_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	block  = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	edited = regexp.MustCompile(`^# systemctl edit (\S+)\n`)
	// sentence is a command within a sentence that puts an edited unit into force.
	sentence = regexp.MustCompile("`((?:systemctl stop tlspolicyd.socket; )?systemctl restart tlspolicyd.service)`")
)

// section returns the text of a page from a title to the next one of its rank.
func section(t *testing.T, page, title string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut("\n"+string(text), "\n"+title+"\n")
	if !found {
		t.Fatalf("%s has no %q", page, title)
	}
	rank, _, _ := strings.Cut(title, " ")
	rest, _, _ = strings.Cut(rest, "\n"+rank+" ")
	return rest
}

// blocks returns what stands between fences.
func blocks(text string) []string {
	var all []string
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		all = append(all, found[1])
	}
	return all
}

// step is a block or a command within a sentence or a table.
var step = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$|`(systemctl [^`\n]+)`")

// walk does what a page says, in the order in which it is read, and returns how many
// units were edited and how many commands run. What the page says of other programs'
// units is left out.
func (b *box) walk(t *testing.T, page, name string) (edits, ran int) {
	t.Helper()
	for i, found := range step.FindAllStringSubmatch(page, -1) {
		block, command := found[1], found[2]
		switch {
		case command == "":
			e, r := b.follow(t, block, name+strconv.Itoa(i))
			edits, ran = edits+e, ran+r
		case strings.HasPrefix(command, "systemctl edit"): // what to write stands beside it
		case strings.Contains(command, " tlspolicyd"):
			b.do(t, "sh", "-ec", command)
			ran++
		}
	}
	return edits, ran
}

// commands returns the lines of a block that are commands for this machine.
func commands(block string) []string {
	var all []string
	for line := range strings.Lines(block) {
		name, _, _ := strings.Cut(line, " ")
		if name == "systemctl" || name == "journalctl" || name == "install" {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// follow does what a block says: a unit is edited as by "systemctl edit", and
// commands are run. It returns how many units and commands there were.
func (b *box) follow(t *testing.T, block, name string) (edits, ran int) {
	t.Helper()
	if unit := edited.FindStringSubmatch(block); unit != nil {
		b.write(t, "/etc/systemd/system/"+unit[1]+".d/"+name+".conf", block)
		b.do(t, "systemctl", "daemon-reload")
		return 1, 0
	}
	for _, line := range commands(block) {
		b.do(t, "sh", "-ec", line)
		ran++
	}
	return 0, ran
}
