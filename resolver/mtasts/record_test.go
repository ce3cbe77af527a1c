package mtasts

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"tlspolicyd/resolver/policy"
)

const (
	word32 = "abcdefghijklmnopqrstuvwxyz012345"
	word33 = word32 + "6"
)

func TestParseRecordsAccepts(t *testing.T) {
	for _, test := range []struct {
		name  string
		texts []string
		want  string
	}{
		{"the example of RFC 8461, section 3.1", []string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{"no white space", []string{"v=STSv1;id=1"}, "1"},
		{"tabs around the semicolons", []string{"v=STSv1;\tid=1\t;\t"}, "1"},
		{"white space at the end, after a semicolon", []string{"v=STSv1; id=1;  "}, "1"},
		{"white space before the first semicolon, one record", []string{"v=STSv1 ; id=1"}, "1"},
		{"tab before the first semicolon, one record", []string{"v=STSv1\t;\tid=1"}, "1"},
		{"letters of both cases", []string{"v=STSv1; id=aZ09"}, "aZ09"},
		{"longest id", []string{"v=STSv1; id=" + word32}, word32},
		{"extension after the id", []string{"v=STSv1; id=1; x.y-z_1=foo,bar!"}, "1"},
		{"extension before the id", []string{"v=STSv1; foo=bar; id=1"}, "1"},
		{"longest name of an extension", []string{"v=STSv1; " + word32 + "=1; id=1"}, "1"},
		{"every character that a value may have", []string{"v=STSv1; x=" + visible("=;") + "; id=1"}, "1"},
		{"id twice, the first counts", []string{"v=STSv1; id=1; id=2"}, "1"},
		{"id twice, the second is no id", []string{"v=STSv1; id=1; id=a_b"}, "1"},
		{"ID is an extension", []string{"v=STSv1; ID=2; id=1"}, "1"},
		{"version again as an extension", []string{"v=STSv1; v=STSv1; id=1"}, "1"},
		{"foreign record first", []string{"v=spf1 -all", "v=STSv1; id=1"}, "1"},
		{"foreign record last", []string{"v=STSv1; id=1", ""}, "1"},
		{"record of another version beside it", []string{"v=STSv1; id=1", "v=STSv12; id=2"}, "1"},
		{"white space before the first semicolon of the other", []string{"v=STSv1 ; id=2", "v=STSv1; id=1"}, "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseRecords(test.texts)
			if err != nil || got != test.want {
				t.Errorf("ParseRecords(%q) = %q, %v; want %q", test.texts, got, err, test.want)
			}
		})
	}
}

func TestParseRecordsNoRecord(t *testing.T) {
	for _, texts := range [][]string{
		nil,
		{""},
		{"v=spf1 -all"},
		{"id=1; v=STSv1"},
		{"V=STSv1; id=1"},
		{"v=stsv1; id=1"},
		{"v = STSv1; id=1"},
		{" v=STSv1; id=1"},
		{"v=STSv2; id=1"},
		{"\"v=STSv1; id=1\""},
		// Several records: white space before the semicolon costs the record
		// its place.
		{"v=STSv1 ; id=1", "other"},
		{"v=STSv1 ; id=1", "v=STSv1 ; id=1"},
		{"v=STSv1", "v=STSv1"},
		{"v=STSv12; id=1", "other"},
	} {
		id, err := ParseRecords(texts)
		if id != "" || !errors.Is(err, ErrNoRecord) {
			t.Errorf("ParseRecords(%q) = %q, %v; want ErrNoRecord", texts, id, err)
		}
	}
}

func TestParseRecordsManyRecords(t *testing.T) {
	for _, texts := range [][]string{
		{"v=STSv1; id=1", "v=STSv1; id=2"},
		{"v=STSv1; id=1", "v=STSv1; id=1"},
		{"v=STSv1; id=1", "v=spf1 -all", "v=STSv1; id=2", "v=STSv1; id=3"},
		// The count comes before the syntax.
		{"v=STSv1; id=1", "v=STSv1; bogus"},
		{"v=STSv1;", "v=STSv1; id=1"},
	} {
		id, err := ParseRecords(texts)
		if id != "" || !errors.Is(err, ErrManyRecords) {
			t.Errorf("ParseRecords(%q) = %q, %v; want ErrManyRecords", texts, id, err)
		}
	}
}

func TestParseRecordsSyntax(t *testing.T) {
	for _, test := range []struct{ text, reason string }{
		{"v=STSv1", "no id"},
		{"v=STSv1;", "no id"},
		{"v=STSv1;  ", "no id"},
		{"v=STSv1; ID=1", "no id"},
		{"v=STSv1; mode=enforce; max_age=86400;", "no id"},
		{"v=STSv12; id=1", `text without a ";" before it`},
		{"v=STSv1 id=1", `text without a ";" before it`},
		{"v=STSv1, id=1", `text without a ";" before it`},
		{`v=STSv1\; id=1`, `text without a ";" before it`},
		{"v=STSv1; id=1 ", `text without a ";" before it`},
		{"v=STSv1; id=1\t", `text without a ";" before it`},
		{"v=STSv1 ", `text without a ";" before it`},
		{"v=STSv1; id =1", `field without "="`},
		{"v=STSv1; id= 1", "empty id"},
		{"v=STSv1; id=", "empty id"},
		{"v=STSv1; id=1; foo=a b", `text without a ";" before it`},
		{"v=STSv1; id=2016-08-31", "id of other than 1 to 32 letters and digits"},
		{"v=STSv1; id=a_b", "id of other than 1 to 32 letters and digits"},
		{"v=STSv1; id=" + word33, "id of other than 1 to 32 letters and digits"},
		{"v=STSv1; id=a_b; id=1", "id of other than 1 to 32 letters and digits"},
		{"v=STSv1; id=<number>", "id of other than 1 to 32 letters and digits"},
		{"v=STSv1; id=1; id=", "empty id"},
		{"v=STSv1; id=1; foo=", "field without a value"},
		{"v=STSv1; id=1; foo", `field without "="`},
		{"v=STSv1; id=1; =foo", "bad name of a field"},
		{"v=STSv1; id=1; _x=1", "bad name of a field"},
		{"v=STSv1; id=1; x+y=1", "bad name of a field"},
		{"v=STSv1; id=1; " + word33 + "=1", "bad name of a field"},
		{"v=STSv1; id=1; foo=a=b", "character that is not allowed in a value"},
		{"v=STSv1; id=123v=STSv1", "character that is not allowed in a value"},
		{"v=STSv1; id=1; foo=a\x00b", "character that is not allowed in a value"},
		{"v=STSv1; id=1; foo=a\x7fb", "character that is not allowed in a value"},
		{"v=STSv1; id=1; foo=\u00a3", "character that is not allowed in a value"},
		{"v=STSv1; id=1\r\n", "character that is not allowed in a value"},
		{"v=STSv1;; id=1", `two ";" with nothing between them`},
		{"v=STSv1; ; id=1", `two ";" with nothing between them`},
		{"v=STSv1; id=1;;", `two ";" with nothing between them`},
		{"v=STSv1; id=1; ;", `two ";" with nothing between them`},
	} {
		for _, texts := range [][]string{{test.text}, {"foreign", test.text}} {
			if len(texts) > 1 && !strings.HasPrefix(test.text, "v=STSv1;") {
				continue // it is not counted among others
			}
			id, err := ParseRecords(texts)
			var syntax *RecordError
			if id != "" || !errors.As(err, &syntax) {
				t.Errorf("ParseRecords(%q) = %q, %v; want a RecordError", texts, id, err)
				continue
			}
			if syntax.Reason != test.reason || syntax.Text != test.text {
				t.Errorf("ParseRecords(%q): %q in %q, want %q", texts, syntax.Reason, syntax.Text, test.reason)
			}
		}
	}
}

func TestRecordErrorsAreOneShortLine(t *testing.T) {
	junk := strings.Repeat("\n\x1b[2J\u202e", 5000)
	for _, texts := range [][]string{
		{junk},
		{"v=STSv1;" + junk},
		{"v=STSv1" + junk, junk},
	} {
		_, err := ParseRecords(texts)
		if err == nil {
			t.Fatalf("ParseRecords(%.20q) succeeded", texts)
		}
		checkLine(t, err.Error())
	}
	_, err := ParseRecords([]string{"other", "v=STSv1 ; id=1"})
	if want := `no TXT record begins with "v=STSv1;": found "v=STSv1 ; id=1"`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	_, err = ParseRecords([]string{"v=STSv1; id=\n"})
	if want := `character that is not allowed in a value in TXT record "v=STSv1; id=\n"`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestRecordsFor(t *testing.T) {
	domain, err := policy.ParseDomain("B\u00fccher.example.")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 19, 15, 0, 0, time.FixedZone("", 3600))
	got := RecordsFor(now, domain)
	want := []string{
		`_mta-sts.xn--bcher-kva.example. IN TXT "v=STSv1; id=20261122T181500Z"`,
		`_smtp._tls.xn--bcher-kva.example. IN TXT "v=TLSRPTv1; rua=mailto:tls-reports@xn--bcher-kva.example"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, text, _ := strings.Cut(got[0], ` IN TXT `)
	if id, err := ParseRecords([]string{strings.Trim(text, `"`)}); id != "20261122T181500Z" || err != nil {
		t.Errorf("ParseRecords of it = %q, %v", id, err)
	}
}

// recordGrammar is the grammar of RFC 8461, section 3.1, said in another way.
var recordGrammar = regexp.MustCompile(`^v=STSv1(?:[ \t]*;[ \t]*[A-Za-z0-9][A-Za-z0-9_.-]{0,31}=[!-:<>-~]+)+(?:[ \t]*;[ \t]*)?$`)

var idGrammar = regexp.MustCompile(`^[A-Za-z0-9]{1,32}$`)

var recordID = regexp.MustCompile(`[; \t]id=([^; \t]*)`)

// FuzzParseRecords reads a set of records, one on each line.
func FuzzParseRecords(f *testing.F) {
	f.Fuzz(func(t *testing.T, set string) {
		texts := strings.Split(set, "\n")
		got, err := ParseRecords(texts)
		if want := recordOracle(texts); got != want {
			t.Fatalf("ParseRecords(%q) = %q, %v; want %q", texts, got, err, want)
		}
		if (err == nil) != (got != "") {
			t.Fatalf("ParseRecords(%q) = %q, %v", texts, got, err)
		}
		if err != nil {
			checkLine(t, err.Error())
		}
		slices.Reverse(texts)
		if again, _ := ParseRecords(texts); again != got {
			t.Fatalf("ParseRecords(%q) = %q; in reverse order %q", texts, got, again)
		}
		if len(texts) > 1 {
			if again, _ := ParseRecords(append(texts, "v=spf1 -all")); again != got {
				t.Fatalf("ParseRecords(%q) = %q; with a foreign record %q", texts, got, again)
			}
		}
	})
}

// recordOracle returns the id, or nothing if there is none.
func recordOracle(texts []string) string {
	if len(texts) > 1 {
		texts = slices.DeleteFunc(slices.Clone(texts), func(s string) bool { return !strings.HasPrefix(s, "v=STSv1;") })
	}
	if len(texts) != 1 || !recordGrammar.MatchString(texts[0]) {
		return ""
	}
	id := recordID.FindStringSubmatch(texts[0])
	if id == nil || !idGrammar.MatchString(id[1]) {
		return ""
	}
	return id[1]
}

// visible returns the visible ASCII characters, without some.
func visible(without string) string {
	var b strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		if strings.IndexByte(without, c) < 0 {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// checkLine checks that a message can be shown anywhere.
func checkLine(t *testing.T, s string) {
	t.Helper()
	const most = 4*maxText + 200
	if s == "" || len(s) > most {
		t.Errorf("%d bytes, want 1 to %d: %q", len(s), most, s)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			t.Errorf("%U in %q", c, s)
			return
		}
	}
}
