package mtasts

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/resolver/policy"
)

// TestRecordVectors is the numbered list of answers to the question for a TXT
// record; an empty id means that there is no policy to be had. T26 to T28 were
// never given out.
func TestRecordVectors(t *testing.T) {
	for _, v := range []struct {
		number  string
		records []string
		id      string
	}{
		{"T1", []string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{"T2", []string{"v=STSv1;id=1"}, "1"},
		{"T3", []string{"v=STSv1 ; id=1"}, "1"},
		{"T4", []string{"v=STSv1 ; id=1", "other"}, ""},
		{"T5", []string{"v=spf1 -all", "v=STSv1; id=1"}, "1"},
		{"T6", []string{"v=STSv1; id=1", "v=STSv1; id=2"}, ""},
		{"T7", []string{"v=STSv1; id=1", "v=STSv1; bogus"}, ""},
		{"T8", []string{"id=1; v=STSv1"}, ""},
		{"T9 V", []string{"V=STSv1; id=1"}, ""},
		{"T9 lower case", []string{"v=stsv1; id=1"}, ""},
		{"T9 blanks", []string{"v = STSv1; id=1"}, ""},
		{"T10", []string{" v=STSv1; id=1"}, ""},
		{"T11 hyphens", []string{"v=STSv1; id=2016-08-31"}, ""},
		{"T11 underscore", []string{"v=STSv1; id=a_b"}, ""},
		{"T11 empty", []string{"v=STSv1; id="}, ""},
		{"T12 32", []string{"v=STSv1; id=" + word32}, word32},
		{"T12 33", []string{"v=STSv1; id=" + word33}, ""},
		{"T13 semicolon", []string{"v=STSv1;"}, ""},
		{"T13", []string{"v=STSv1"}, ""},
		{"T14", []string{"v=STSv1; id=1; x.y-z_1=foo,bar!"}, "1"},
		{"T15", []string{"v=STSv1; foo=bar; id=1"}, "1"},
		{"T16", []string{"v=STSv1; id=1; id=2"}, "1"},
		{"T17", []string{"v=STSv1; id=1; foo="}, ""},
		{"T18", []string{"v=STSv1; id=1; foo=a=b"}, ""},
		{"T19", []string{"v=STSv1; id=1; foo=a b"}, ""},
		{"T20", []string{"v=STSv1; id=1 "}, ""},
		{"T21", []string{"v=STSv1; id=1;  "}, "1"},
		{"T22", []string{"v=STSv1;; id=1"}, ""},
		{"T29", []string{"v=STSv1; ID=1"}, ""},
		{"T30 alone", []string{"v=STSv1\t;\tid=1"}, "1"},
		{"T30 beside another", []string{"v=STSv1\t;\tid=1", "other"}, ""},
		{"T31", []string{"v=STSv12; id=1"}, ""},
	} {
		t.Run(v.number, func(t *testing.T) {
			if id, err := ParseRecords(v.records); id != v.id || (err == nil) != (v.id != "") {
				t.Errorf("got %q, %v, want %q", id, err, v.id)
			}
		})
	}
}

// TestRecordVectorsOfTheDNS are those of the numbered list that need the DNS:
// T23 and T24, strings of one record; T25, a chain of aliases.
func TestRecordVectorsOfTheDNS(t *testing.T) {
	for _, v := range []struct{ number, zones string }{
		{"T23", `_mta-sts.example.com. TXT "v=STSv1; i" "d=1"`},
		{"T24", `_mta-sts.example.com. TXT "v=STSv1;" "id=1"`},
		{"T25", "_mta-sts.example.com. CNAME a.example.net.\na.example.net. CNAME b.example.org.\n" +
			`b.example.org. TXT "v=STSv1; id=1"`},
	} {
		t.Run(v.number, func(t *testing.T) {
			resolver := new(dnstest.Resolver)
			resolver.SetZone(v.zones)
			answer, err := resolver.Query(t.Context(), "_mta-sts.example.com.", dns.TypeTXT)
			if err != nil {
				t.Fatal(err)
			}
			if id, err := ParseRecords(texts(answer.Records)); id != "1" || err != nil {
				t.Errorf("got %q, %v, want 1", id, err)
			}
		})
	}
}

// refused stands for a policy that is not valid.
const refused = "refused"

// TestPolicyVectors is the numbered list of policy files, each a variation of
// one; valid ones are given by mode, max_age and number of mx. P41 was never
// given out.
func TestPolicyVectors(t *testing.T) {
	const valid = "enforce 86400 1"
	mode := func(s string) string { return with("mode: enforce", s+"\n") }
	age := func(s string) string { return with("max_age: 86400", "max_age: "+s+"\n") }
	mx := func(s string) string { return with("mx: mail.example.com", "mx: "+s+"\n") }
	hundred := ""
	for i := range 100 {
		hundred += fmt.Sprintf("mx: mx%d.example.com\n", i%90)
	}
	for _, v := range []struct{ number, text, want string }{
		{"P1 CRLF", strings.ReplaceAll(example, "\n", "\r\n"), valid},
		{"P2 LF", example, valid},
		{"P3 both", mode("mode: enforce\r"), valid},
		{"P4 no final line end", strings.TrimSuffix(example, "\n"), valid},
		{"P5 a final line end", example, valid},
		{"P6 blank line between", mode("\nmode: enforce"), valid},
		{"P6 blank line at the end", example + "\n", valid},
		{"P7", mode("mode: enforce  \t"), valid},
		{"P8", mode(" mode: enforce"), refused},
		{"P9", mode("mode : enforce"), refused},
		{"P10", mode("mode:enforce"), valid},
		{"P11", mode("mode:\tenforce"), valid},
		{"P12", "mode: enforce\n" + with("mode: enforce", ""), valid},
		{"P13 version", with("version: STSv1", ""), refused},
		{"P13 mode", with("mode: enforce", ""), refused},
		{"P13 max_age", with("max_age: 86400", ""), refused},
		{"P14", with("version: STSv1", "version: STSv2\n"), refused},
		{"P15", with("version: STSv1", "version: stsv1\n"), refused},
		{"P16", mode("Mode: enforce"), refused},
		{"P17 Enforce", mode("mode: Enforce"), refused},
		{"P17 report", mode("mode: report"), refused},
		{"P17 empty", mode("mode:"), refused},
		{"P18", "version: STSv1\nmode: none\nmax_age: 86400\n", "none 86400 0"},
		{"P19", mode("mode: none"), "none 86400 1"},
		{"P20 enforce", with("mx: mail.example.com", ""), refused},
		{"P20 testing", "version: STSv1\nmode: testing\nmax_age: 86400\n", refused},
		{"P20 misspelt", with("mx: mail.example.com", "nmx: mail.example.com\n"), refused},
		{"P21", age("0"), "enforce 0 1"},
		{"P22", age("31557600"), "enforce 31557600 1"},
		{"P23", age("31557601"), "enforce 31557600 1"},
		{"P24", age("9999999999"), "enforce 31557600 1"},
		{"P25", age("10000000000"), refused},
		{"P26 negative", age("-1"), refused},
		{"P26 plus", age("+1"), refused},
		{"P26 exponent", age("1e5"), refused},
		{"P26 unit", age("86400s"), refused},
		{"P26 day", age("1 day"), refused},
		{"P27", age("0000086400"), valid},
		{"P28", mode("mode: testing\nmode: enforce"), "testing 86400 1"},
		{"P29 max_age", age("86400\nmax_age: never"), valid},
		{"P29 version", with("version: STSv1", "version: STSv1\nversion: 2\n"), valid},
		{"P30", with("mx: mail.example.com", hundred), "enforce 86400 90"},
		{"P31", example + "x-note: hällo wörld\n", valid},
		{"P32", "x-note: hällo wörld\n" + example, valid},
		{"P33 blank", example + "foo bar: x\n", refused},
		{"P33 underscore", example + "_x: y\n", refused},
		{"P33 33 characters", example + word33 + ": y\n", refused},
		{"P34", "<html>\n" + example, refused},
		{"P35", example + "foo:\n", refused},
		{"P36 wildcard", mx("*.example.com"), valid},
		{"P36 star", mx("*"), refused},
		{"P36 no dot", mx("*example.com"), refused},
		{"P36 draft", mx(".example.com"), refused},
		{"P36 middle", mx("mail.*.example.com"), refused},
		{"P36 twice", mx("*.*.example.com"), refused},
		{"P36 final dot", mx("mail.example.com."), valid},
		{"P36 underscore", mx("mail_1.example.com"), refused},
		{"P36 literal", mx("[192.0.2.1]"), refused},
		{"P36 two", mx("a.example b.example"), refused},
		{"P37", byteOrderMark + example, valid},
		{"P38", strings.ReplaceAll(example, "\n", "\r"), refused},
		{"P39 NUL", example + "x: a\x00b\n", refused},
		{"P39 ESC", example + "x: a\x1bb\n", refused},
		{"P40", example + "x: " + strings.Repeat("y", maxPolicySize), refused},
		{"P42", "", refused},
	} {
		t.Run(v.number, func(t *testing.T) {
			if got := summary(ParsePolicy(v.text)); got != v.want {
				t.Errorf("got %s, want %s", got, v.want)
			}
		})
	}
}

func summary(p *policy.STSPolicy, err error) string {
	if err != nil {
		return refused
	}
	return fmt.Sprintf("%s %d %d", p.Mode, p.MaxAge/time.Second, len(p.MX))
}
