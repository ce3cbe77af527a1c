package policymap_test

import (
	"strings"
	"testing"

	"tlspolicyd/resolver/policy"
	"tlspolicyd/socketmap/policymap"
)

// services stands for /etc/services.
func services(name string) uint16 {
	if name == "smtp-2525" {
		return 2525
	}
	return 0
}

var rules = policymap.KeyRules{Port: services}

var goodKeys = []struct{ key, domain, hop string }{
	{"example.com", "example.com", "example.com"},
	{"EXAMPLE.com.", "example.com", "example.com"},
	{"a.b.c.example.com", "a.b.c.example.com", "a.b.c.example.com"},
	{"bücher.example", "xn--bcher-kva.example", "xn--bcher-kva.example"},
	{"BÜCHER.example.", "xn--bcher-kva.example", "xn--bcher-kva.example"},
	{"xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example"},
	{"1and1.com", "1and1.com", "1and1.com"},
	{"1.2.3.4.example", "1.2.3.4.example", "1.2.3.4.example"},
	{"example.com:25", "example.com", "example.com"},
	{"example.com:587", "example.com", "example.com:587"},
	{"example.com:0587", "example.com", "example.com:587"},
	{"example.com:65535", "example.com", "example.com:65535"},
	{"example.com:smtp", "example.com", "example.com"},
	{"example.com:submission", "example.com", "example.com:587"},
	{"example.com:SUBMISSIONS", "example.com", "example.com:465"},
	{"example.com:smtps", "example.com", "example.com:465"},
	{"example.com:smtp-2525", "example.com", "example.com:2525"},
	{"example.com:unheard-of", "example.com", "example.com:?"},
	{"[mail.example.com]", "mail.example.com", "[mail.example.com]"},
	{"[MAIL.example.com.]", "mail.example.com", "[mail.example.com]"},
	{"[mail.example.com]:25", "mail.example.com", "[mail.example.com]"},
	{"[mail.example.com]:587", "mail.example.com", "[mail.example.com]:587"},
	{"[mail.example.com]:submission", "mail.example.com", "[mail.example.com]:587"},
	{"[mail.example.com]:unheard-of", "mail.example.com", "[mail.example.com]:?"},
	{"[bücher.example]", "xn--bcher-kva.example", "[xn--bcher-kva.example]"},
	{strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b", strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b", strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b"},
}

func TestParseKey(t *testing.T) {
	for _, tt := range goodKeys {
		got, err := policymap.ParseKey(tt.key, rules)
		if err != nil {
			t.Errorf("%q: %v", tt.key, err)
			continue
		}
		if got.Domain.String() != tt.domain || got.String() != tt.hop {
			t.Errorf("%q: got %s of domain %s, want %s of %s", tt.key, got, got.Domain, tt.hop, tt.domain)
		}
	}
}

var badKeys = []struct{ name, key string }{
	{"empty", ""},
	{"blank", " "},
	{"blanks", "   "},
	{"parent", ".example.com"},
	{"top-level domain", ".com"},
	{"one label", "localhost"},
	{"one label and a dot", "com."},
	{"root", "."},
	{"two dots", "example..com"},
	{"dots at the end", "example.com.."},
	{"blank before", " example.com"},
	{"blank after", "example.com "},
	{"blank inside", "example.com example.net"},
	{"tab", "example.com\t"},
	{"newline", "example.com\n"},
	{"NUL", "example.com\x00"},
	{"DEL", "example\x7f.com"},
	{"invalid UTF-8", "ex\xffample.com"},
	{"underscore", "_mta-sts.example.com"},
	{"hyphen first", "-example.com"},
	{"hyphen last", "example-.com"},
	{"A-label that ends in a hyphen", "xn--nonsense-.example.com"},
	{"slash", "example.com/"},
	{"path", "/var/spool/postfix/private/lmtp"},
	{"LMTP destination", "unix:/var/run/lmtp"},
	{"inet destination", "inet:example.com:24"},
	{"transport before it", "smtp:[mail.example.com]:submission"},
	{"address", "user@example.com"},
	{"quotes", `"example.com"`},
	{"wildcard", "*.example.com"},
	{"comma", "example.com,example.net"},
	{"braces", "{example.com}"},
	{"IPv4", "192.0.2.1"},
	{"IPv4 and port", "192.0.2.1:25"},
	{"numeric last label", "example.123"},
	{"hexadecimal IPv4", "0x7f.1"},
	{"IPv6", "2001:db8::1"},
	{"IPv6 in brackets", "[2001:db8::1]"},
	{"IPv6 literal", "[IPv6:2001:db8::1]"},
	{"IPv6 literal and port", "[IPv6:2001:db8::1]:25"},
	{"IPv4 literal", "[192.0.2.1]"},
	{"IPv4 literal and port", "[192.0.2.1]:587"},
	{"parent in brackets", "[.example.com]"},
	{"one label in brackets", "[localhost]"},
	{"empty brackets", "[]"},
	{"open bracket", "[example.com"},
	{"closed bracket", "example.com]"},
	{"brackets within", "[[example.com]]"},
	{"text after brackets", "[example.com]x"},
	{"dot after brackets", "[example.com]."},
	{"port in brackets", "[example.com:25]"},
	{"no host", ":25"},
	{"no host in brackets", "[]:25"},
	{"no port", "example.com:"},
	{"no port after brackets", "[example.com]:"},
	{"port 0", "example.com:0"},
	{"port 00000", "example.com:00000"},
	{"port above 65535", "example.com:65536"},
	{"port that overflows", "example.com:18446744073709551641"},
	{"signed port", "example.com:+25"},
	{"two ports", "example.com:25:25"},
	{"service with an underscore", "example.com:sub_mission"},
	{"service with a blank", "example.com:smtp "},
	{"service that is too long", "example.com:" + strings.Repeat("a", 64)},
	{"label of 64", strings.Repeat("a", 64) + ".example"},
	{"name of 254", strings.Repeat(strings.Repeat("a", 62)+".", 4) + "bc"},
	{"name without end", strings.Repeat("a.", 5000)},
	{"U-label without end", strings.Repeat("ü", 5000)},
	{"U-label that is too long", strings.Repeat("ü", 63) + ".example"},
	{"emoji and a slash", "📮.example/"},
}

func TestParseKeyRejects(t *testing.T) {
	for _, tt := range badKeys {
		if got, err := policymap.ParseKey(tt.key, rules); err == nil || got != (policy.NextHop{}) {
			t.Errorf("%s: %.60q is read as %v, error %v", tt.name, tt.key, got, err)
		}
	}
}

func TestNoSmartHosts(t *testing.T) {
	off := policymap.KeyRules{NoSmartHosts: true, Port: services}
	for _, tt := range goodKeys {
		if _, err := policymap.ParseKey(tt.key, off); (err != nil) != strings.HasPrefix(tt.key, "[") {
			t.Errorf("%q: error is %v", tt.key, err)
		}
	}
}

// Without a table of its own, that of the system is asked.
func TestSystemServices(t *testing.T) {
	for key, want := range map[string]string{
		"example.com:https":              "example.com:443",
		"example.com:no-such-service-xy": "example.com:?",
	} {
		got, err := policymap.ParseKey(key, policymap.KeyRules{})
		if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", key, got, err, want)
		}
	}
}

// What is read is written back as a key of the same next-hop, and consists of
// harmless characters.
func FuzzParseKey(f *testing.F) {
	for _, tt := range goodKeys {
		f.Add(tt.key)
	}
	for _, tt := range badKeys {
		f.Add(tt.key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		hop, err := policymap.ParseKey(key, rules)
		if err != nil {
			if hop != (policy.NextHop{}) {
				t.Fatalf("%q: got %v along with the error %v", key, hop, err)
			}
			return
		}
		name := hop.Domain.String()
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || !strings.Contains(name, ".") || name[0] == '.' || len(name) > 253 {
			t.Fatalf("%q has the domain %q", key, name)
		}
		if hop.Port == 0 {
			return // a service that is not known has no name any more
		}
		if again, err := policymap.ParseKey(hop.String(), rules); err != nil || again != hop {
			t.Fatalf("%q is %v, which is read as %v, %v", key, hop, again, err)
		}
	})
}

func BenchmarkParseKey(b *testing.B) {
	for _, key := range []string{"example.com", ".com", "[mail.example.com]:587", "bücher.example"} {
		b.Run(key, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = policymap.ParseKey(key, rules)
			}
		})
	}
}
