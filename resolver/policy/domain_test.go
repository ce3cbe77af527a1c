package policy

import (
	"errors"
	"strings"
	"testing"
)

func TestParseDomainGivesOneValueForAllSpellings(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.com.", "example.com"},
		{"mail.sub.example.com", "mail.sub.example.com"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example.", "xn--bcher-kva.example"},
		{"bu\u0308cher.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.EXAMPLE", "xn--bcher-kva.example"},
		{"straße.example", "xn--strae-oqa.example"},
		{"bücher。example", "xn--bcher-kva.example"},
		{"例え.テスト", "xn--r8jz45g.xn--zckzah"},
		{"xn--99999999999999.example", "xn--99999999999999.example"},
		{"a--b.example", "a--b.example"},
		{"3com.example", "3com.example"},
		{"1.2.3.x4", "1.2.3.x4"},
		{"a.b", "a.b"},
		{strings.Repeat("a", 63) + ".example", strings.Repeat("a", 63) + ".example"},
	} {
		got, err := ParseDomain(tt.in)
		if err != nil || got.String() != tt.want {
			t.Errorf("ParseDomain(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestParseDomainRefuses(t *testing.T) {
	long := strings.Repeat("abcdefg.", 31) + "abcdef" // 254 bytes
	for _, tt := range []struct {
		in   string
		want error
	}{
		{"", ErrSyntax},
		{".", ErrSyntax},
		{"..", ErrSyntax},
		{".example.com", ErrSyntax},
		{"example..com", ErrSyntax},
		{"example.com..", ErrSyntax},
		{" example.com", ErrSyntax},
		{"example.com ", ErrSyntax},
		{"exam ple.com", ErrSyntax},
		{"exam\x00ple.com", ErrSyntax},
		{"example.com\n", ErrSyntax},
		{"_dmarc.example.com", ErrSyntax},
		{"-a.example", ErrSyntax},
		{"a-.example", ErrSyntax},
		{"a,b.example", ErrSyntax},
		{"a/b.example", ErrSyntax},
		{"a{b.example", ErrSyntax},
		{"*.example.com", ErrSyntax},
		{"2001:db8::1", ErrSyntax},
		{"[192.0.2.1]", ErrSyntax},
		{strings.Repeat("a", 64) + ".example", ErrSyntax},
		{long, ErrSyntax},
		{strings.Repeat("ü", 64) + ".example", ErrSyntax},
		{"bücher..example", ErrSyntax},
		{".bücher.example", ErrSyntax},
		{"bü_cher.example", ErrSyntax},
		{"bü cher.example", ErrSyntax},
		{"b\xfccher.example", ErrSyntax},
		{"\xff\xfe.example", ErrSyntax},
		{"localhost", ErrNoHost},
		{"com.", ErrNoHost},
		{"192.0.2.1", ErrNoHost},
		{"example.123", ErrNoHost},
		{"12345", ErrNoHost},
	} {
		got, err := ParseDomain(tt.in)
		if !errors.Is(err, tt.want) {
			t.Errorf("ParseDomain(%q) = %q, %v, want error %v", tt.in, got, err, tt.want)
		}
	}
}

func FuzzParseDomain(f *testing.F) {
	for _, s := range []string{"example.com", "bücher.example", "EXAMPLE.com.", "192.0.2.1", "a.b{", "xn--a.example", "。."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDomain(s)
		if err != nil {
			return
		}
		name := d.String()
		if again, err := ParseDomain(name); err != nil || again != d {
			t.Errorf("ParseDomain(%q) = %q, which reads as %q, %v", s, name, again, err)
		}
		if name != strings.ToLower(name) || len(name) > maxName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
			t.Errorf("ParseDomain(%q) = %q", s, name)
		}
	})
}

func TestParseMXPattern(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		err      error
	}{
		{"mail.example.com", "mail.example.com", nil},
		{"MAIL.Example.COM.", "mail.example.com", nil},
		{"*.example.com", "*.example.com", nil},
		{"*.EXAMPLE.com", "*.example.com", nil},
		{"xn--bcher-kva.example", "xn--bcher-kva.example", nil},
		{"*", "", ErrSyntax},
		{"*.", "", ErrSyntax},
		{"*.com", "*.com", nil},
		{"*.Com.", "*.com", nil},
		{"*.123", "", ErrNoHost},
		{"*example.com", "", ErrSyntax},
		{".example.com", "", ErrSyntax},
		{"mail.*.example.com", "", ErrSyntax},
		{"*.*.example.com", "", ErrSyntax},
		{"mail_1.example.com", "", ErrSyntax},
		{"[192.0.2.1]", "", ErrSyntax},
		{"192.0.2.1", "", ErrNoHost},
		{"hostname", "", ErrNoHost},
		{"nexthop", "", ErrNoHost},
		{"a.example b.example", "", ErrSyntax},
		{"a.example:25", "", ErrSyntax},
		{"bücher.example", "", ErrSyntax},
		{"", "", ErrSyntax},
	} {
		got, err := ParseMXPattern(tt.in)
		if !errors.Is(err, tt.err) || got.String() != tt.want {
			t.Errorf("ParseMXPattern(%q) = %q, %v, want %q, %v", tt.in, got, err, tt.want, tt.err)
		}
	}
}

func TestMXPatternMatches(t *testing.T) {
	for _, tt := range []struct {
		pattern, host string
		want          bool
	}{
		{"mail.example.com", "mail.example.com", true},
		{"mail.example.com", "mx.mail.example.com", false},
		{"*.example.com", "mail.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "foo.bar.example.com", false},
		{"*.example.com", "mailexample.com", false},
		{"*.com", "example.com", true},
		{"*.com", "mail.example.com", false},
		{"*.com", "com", false},
	} {
		p, err := ParseMXPattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Matches(tt.host); got != tt.want {
			t.Errorf("%q matches %q: got %v, want %v", tt.pattern, tt.host, got, tt.want)
		}
	}
}

func TestNextHopString(t *testing.T) {
	d, err := ParseDomain("mail.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		hop  NextHop
		want string
	}{
		{NextHop{Domain: d, Port: SMTPPort}, "mail.example"},
		{NextHop{Domain: d, Port: 587}, "mail.example:587"},
		{NextHop{Domain: d, Port: 587, SmartHost: true}, "[mail.example]:587"},
		{NextHop{Domain: d}, "mail.example:?"},
	} {
		if got := tt.hop.String(); got != tt.want {
			t.Errorf("%#v: got %q, want %q", tt.hop, got, tt.want)
		}
	}
}

// Many patterns are remembered, with the text that they come from.
func TestAPatternIsNoCopyOfItsText(t *testing.T) {
	for _, text := range []string{"mail.example.com", "*.example.com", "*.example.com."} {
		if n := testing.AllocsPerRun(100, func() { _, _ = ParseMXPattern(text) }); n != 0 {
			t.Errorf("%s: %v allocations", text, n)
		}
	}
}
