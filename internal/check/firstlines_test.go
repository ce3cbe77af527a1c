package check_test

import (
	"fmt"
	"strings"
	"testing"

	"tlspolicyd/internal/check"
	"tlspolicyd/resolver/policy"
)

func list(word string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s %d", word, i+1))
	}
	return all
}

// However much there is to say, the verdict, the cause, what is wrong here and the
// remedy stand in the first five lines, and the rest is not lost.
func TestWhatMattersStandsInTheFirstFiveLines(t *testing.T) {
	domain, err := policy.ParseDomain("example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, remedy := range []string{"", "the way out"} {
		for causes := 1; causes <= 6; causes++ {
			for here := range 7 {
				name := fmt.Sprintf("%d causes, %d here, remedy %q", causes, here, remedy)
				r := check.Report{Key: "example.com", Hop: policy.NextHop{Domain: domain, Port: 25}}
				r.Conclusion = check.Conclusion{Summary: "the verdict", Because: list("cause", causes), Here: list("trouble", here), Remedy: remedy}
				top := strings.Split(firstLines(r.Text()), "\n")
				wanted := []string{"  because  cause 1"}
				if here > 0 {
					wanted = append(wanted, "  here     trouble 1")
				}
				if remedy != "" {
					wanted = append(wanted, "  remedy   the way out")
				}
				if causes > 1 {
					wanted = append(wanted, "  because  cause 2") // the cause, where the first one is whose word counts
				}
				for _, line := range wanted {
					if !strings.Contains("\n"+strings.Join(top, "\n"), "\n"+line+"\n") {
						t.Errorf("%s: no %q in\n%s", name, line, strings.Join(top, "\n"))
					}
				}
				head, _, _ := strings.Cut(r.Text(), "\nanswers")
				for _, s := range append(r.Conclusion.Because, r.Conclusion.Here...) {
					if strings.Count(head, s) != 1 {
						t.Errorf("%s: %q stands %d times in\n%s", name, s, strings.Count(head, s), head)
					}
				}
				if top[0] != "example.com: the verdict" {
					t.Errorf("%s: the first line is %q", name, top[0])
				}
			}
		}
	}
}

// Everything at once: a daemon with another opinion, servers that do not validate,
// hosts that are refused, and a Postfix that does not ask.
func TestFirstLinesOfABadDay(t *testing.T) {
	ca := newAuthority()
	w := world{
		ca: ca, zones: "$INSECURE .\n" + announced + twoMX, web: file(enforce), daemon: memory{},
		mail: map[string]*mailHost{
			"198.51.100.1:25": {cert: ca.leaf(expired, "mx1.example.com")},
			"198.51.100.2:25": {cert: ca.leaf(expired, "mx2.example.com")},
		},
		postconf: settings(map[string]string{"smtp_tls_policy_maps": "hash:/etc/postfix/tls", "smtp_tls_CAfile": "", "smtp_dns_support_level": ""}),
	}
	text := w.run(t, "example.com").Text()
	for _, s := range []string{
		"mail is deferred: no mail host meets the domain's MTA-STS policy",
		"  because  mx1.example.com: the certificate has expired on ",
		"  here     smtp_tls_policy_maps asks no socketmap, so Postfix does not know of this",
		"  remedy   the domain's administrator: repair the certificates",
	} {
		if !strings.Contains(firstLines(text), s) {
			t.Errorf("the first lines do not say %q:\n%s", s, text)
		}
	}
}
