package mtasts

import (
	"strconv"
	"strings"
	"testing"
)

// BenchmarkParsePolicy shows what a usual policy costs, and that the worst that
// fits into 64 KiB costs no more than in proportion.
func BenchmarkParsePolicy(b *testing.B) {
	fill := func(line string) string {
		return example + strings.Repeat(line, (maxPolicySize-len(example))/len(line))
	}
	var hosts strings.Builder
	hosts.WriteString(example)
	for i := 0; hosts.Len() < maxPolicySize-20; i++ {
		hosts.WriteString("mx: " + strconv.Itoa(i) + ".example\n")
	}
	for _, bench := range []struct{ name, text string }{
		{"usual", example + "mx: backup.example.com\nmx: *.mail.example.net\n"},
		{"hosts", hosts.String()},
		{"one host", fill("mx: a.b\n")},
		{"blank lines", fill("\n")},
		{"no colon", fill("!\n")},
		{"like known keys", fill("nmx: x\n")},
		{"many words", fill("mx: " + strings.Repeat("a ", 16) + "\n")},
		{"not in ASCII", fill("mx: " + strings.Repeat("\u00fc", 60) + ".example\n")},
		{"one line", fill("mx: " + strings.Repeat("\u00fc,", 20000) + "\n")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.SetBytes(int64(len(bench.text)))
			b.ReportAllocs()
			for b.Loop() {
				CheckPolicy(bench.text)
			}
		})
	}
}

// A policy keeps its text; names in lower case are parts of it, not copies.
func TestParsePolicyCopiesNoNames(t *testing.T) {
	var text strings.Builder
	text.WriteString(example)
	const n = 1000
	for i := range n {
		text.WriteString("mx: a-mail-host-with-a-long-name-" + strconv.Itoa(i) + ".example\n")
	}
	allocs := testing.AllocsPerRun(10, func() {
		if _, err := ParsePolicy(text.String()); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > n/4 {
		t.Errorf("%.0f allocations for %d hosts", allocs, n)
	}
}
