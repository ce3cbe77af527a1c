//go:build e2e

package packages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// typed is what is typed before the key for completions, and what must come of it.
var typed = []struct{ line, want string }{
	{"tlspolicyd stat", "status"},
	{"tlspolicyd cache pur", "purge"},
	{"tlspolicyd query --m", "--map"},
}

// TestCompletions has each shell complete with what the packages bring for it.
func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	run(t, "dpkg", "-x", deb(t, first), dir)
	scripts := map[string]string{
		"bash": `. /usr/share/bash-completion/bash_completion; . "$DIR/usr/share/bash-completion/completions/tlspolicyd"
			COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
			__start_tlspolicyd; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh": `zmodload zsh/zpty
			zpty z zsh -f -i
			zpty -w z "PROMPT= ; fpath=($DIR/usr/share/zsh/vendor-completions \$fpath); autoload -U compinit; compinit -u -D"
			zpty -w z "unsetopt zle_bracketed_paste 2>/dev/null; print -r READY-\$((6*7))"
			while zpty -r z line; do [[ $line = *READY-42* ]] && break; done
			zpty -n -w z "$1"$'\t'; sleep 2; zpty -n -w z $'\C-e'
			zpty -r -t z all; while zpty -r -t z more; do all+=$more; done; print -r -- "$all"`,
		"fish": `source $DIR/usr/share/fish/vendor_completions.d/tlspolicyd.fish; complete -C "$argv[1]"`,
	}
	for shell, script := range scripts {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			for _, tt := range typed {
				args := []string{"-c", script, shell, tt.line}
				if shell == "fish" {
					args = []string{"-c", script, tt.line}
				}
				cmd := exec.CommandContext(t.Context(), shell, args...)
				cmd.Env = append(os.Environ(), "DIR="+dir, "HOME="+home, "TERM=dumb", "XDG_CONFIG_HOME="+home, "XDG_DATA_HOME="+home,
					"PATH="+filepath.Join(dir, "usr/bin")+":/usr/sbin:/usr/bin:/sbin:/bin")
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), tt.want) {
					t.Errorf("%q is completed to %q, %v; want %s", tt.line, out, err, tt.want)
				}
			}
		})
	}
}
