package postfixsyntax_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"tlspolicyd/socketmap/policymap/postfixsyntax"
)

const (
	old = postfixsyntax.Postfix34
	now = postfixsyntax.Postfix310
)

func TestParse(t *testing.T) {
	tests := []struct {
		name    string
		release postfixsyntax.Release
		value   string
		want    postfixsyntax.Policy
	}{
		{"level alone", old, "dane-only", postfixsyntax.Policy{Level: "dane-only"}},
		{"level in any case", old, "Dane", postfixsyntax.Policy{Level: "dane"}},
		{"match", old, "secure match=a.b:.c.d", postfixsyntax.Policy{Level: "secure", Match: []string{"a.b", ".c.d"}}},
		{"match twice", old, "secure match=a.b match=c.d", postfixsyntax.Policy{Level: "secure", Match: []string{"a.b", "c.d"}}},
		{"servername", old, "secure servername=hostname", postfixsyntax.Policy{Level: "secure", ServerName: "hostname"}},
		{"all separators", old, ",\tsecure,\r\nmatch=a.b ,servername=hostname, ",
			postfixsyntax.Policy{Level: "secure", Match: []string{"a.b"}, ServerName: "hostname"}},
		{"name in any case", old, "secure MATCH=a.b", postfixsyntax.Policy{Level: "secure", Match: []string{"a.b"}}},
		{"first equals sign", old, "secure tafile=a=b", postfixsyntax.Policy{Level: "secure", Other: map[string]string{"tafile": "a=b"}}},
		{"NUL ends it", old, "secure match=a.b\x00 nonsense", postfixsyntax.Policy{Level: "secure", Match: []string{"a.b"}}},
		{"TLSRPT", now, "secure match=a.b policy_type=sts policy_domain=c.d mx_host_pattern=a.b mx_host_pattern=*.e.f { policy_string = version: STSv1 }",
			postfixsyntax.Policy{Level: "secure", Match: []string{"a.b"}, PolicyType: "sts", PolicyDomain: "c.d",
				MXHostPatterns: []string{"a.b", "*.e.f"}, PolicyStrings: []string{"version: STSv1"}}},
		{"what braces protect", now, "may policy_type=sts {policy_string=a, b=c ,\td}",
			postfixsyntax.Policy{Level: "may", PolicyType: "sts", PolicyStrings: []string{"a, b=c , d"}}},
		{"nested braces", now, "may policy_type=sts { policy_string = a { b } c }",
			postfixsyntax.Policy{Level: "may", PolicyType: "sts", PolicyStrings: []string{"a { b } c"}}},
		{"value that begins with an equals sign", now, "may policy_type=sts { policy_string = =a }",
			postfixsyntax.Policy{Level: "may", PolicyType: "sts", PolicyStrings: []string{"=a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := postfixsyntax.Parse(tt.release, tt.value)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseRejects(t *testing.T) {
	tests := []struct {
		name    string
		release postfixsyntax.Release
		value   string
		want    error
	}{
		{"nothing", old, "", postfixsyntax.ErrEmpty},
		{"separators alone", old, " ,\t\r\n", postfixsyntax.ErrEmpty},
		{"unknown level", old, "secured", postfixsyntax.ErrLevel},
		{"empty match", old, "secure match= servername=hostname", postfixsyntax.ErrValue},
		{"empty name in match", old, "secure match=a.b::c.d", postfixsyntax.ErrValue},
		{"match at may", old, "may match=a.b", postfixsyntax.ErrMisplaced},
		{"match at dane", old, "dane match=a.b", postfixsyntax.ErrMisplaced},
		{"servername at dane-only", old, "dane-only servername=hostname", postfixsyntax.ErrMisplaced},
		{"servername twice", old, "secure servername=hostname servername=hostname", postfixsyntax.ErrTwice},
		{"no value", old, "secure match", postfixsyntax.ErrMalformed},
		{"no name", old, "secure =a", postfixsyntax.ErrMalformed},
		{"blanks around the sign", old, "secure match = a.b", postfixsyntax.ErrMalformed},
		{"unknown name", old, "secure mx=a.b", postfixsyntax.ErrName},
		{"TLSRPT to an old Postfix", old, "secure match=a.b policy_type=sts", postfixsyntax.ErrName},
		{"braces to an old Postfix", old, "secure {match=a.b}", postfixsyntax.ErrName},
		{"type unknown", now, "secure policy_type=tlsa", postfixsyntax.ErrValue},
		{"type twice", now, "secure policy_type=sts policy_type=sts", postfixsyntax.ErrTwice},
		{"domain twice", now, "secure policy_type=sts policy_domain=a.b policy_domain=a.b", postfixsyntax.ErrTwice},
		{"domain without type", now, "secure policy_domain=a.b", postfixsyntax.ErrMisplaced},
		{"domain before type", now, "secure policy_domain=a.b policy_type=sts", postfixsyntax.ErrMisplaced},
		{"domain in brackets", now, "secure policy_type=sts policy_domain=[a.b]", postfixsyntax.ErrValue},
		{"numeric domain", now, "secure policy_type=sts policy_domain=1.2", postfixsyntax.ErrValue},
		{"U-label", now, "secure policy_type=sts policy_domain=bücher.example", postfixsyntax.ErrValue},
		{"pattern without type", now, "secure match=a.b mx_host_pattern=a.b", postfixsyntax.ErrMisplaced},
		{"pattern with a leading dot", now, "secure policy_type=sts mx_host_pattern=.a.b", postfixsyntax.ErrValue},
		{"string without type", now, "secure { policy_string = a }", postfixsyntax.ErrMisplaced},
		{"failure without type", now, "secure policy_failure=a", postfixsyntax.ErrMisplaced},
		{"empty string", now, "secure policy_type=sts { policy_string =  }", postfixsyntax.ErrValue},
		{"string without braces", now, "secure policy_type=sts policy_string=version: STSv1", postfixsyntax.ErrMalformed},
		{"deprecated", now, "secure policy_type=sts policy_ttl=1", postfixsyntax.ErrName},
		{"open brace", now, "secure policy_type=sts { policy_string = a", postfixsyntax.ErrMalformed},
		{"brace inside", now, "secure policy_type=sts { policy_string = a{ }", postfixsyntax.ErrMalformed},
		{"closed too early", now, "secure policy_type=sts { policy_string = a }b }", postfixsyntax.ErrMalformed},
		{"empty group", now, "secure {}", postfixsyntax.ErrMalformed},
		{"label too long", now, "secure policy_type=sts policy_domain=a." + strings.Repeat("b", 64), postfixsyntax.ErrValue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := postfixsyntax.Parse(tt.release, tt.value)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// Whatever the bytes, what is accepted has a level and no empty value.
func FuzzParse(f *testing.F) {
	f.Add("secure match=mx.example.com:.example.net servername=hostname policy_type=sts policy_domain=example.com mx_host_pattern=*.example.net { policy_string = a = b }")
	f.Add("secure {{a}=b} {c=")
	f.Add(" ,dane\x00")
	f.Fuzz(func(t *testing.T, value string) {
		for _, release := range []postfixsyntax.Release{old, now} {
			p, err := postfixsyntax.Parse(release, value)
			if err != nil {
				continue
			}
			if p.Level == "" {
				t.Errorf("%q has no level", value)
			}
			for _, list := range [][]string{p.Match, p.MXHostPatterns, p.PolicyStrings} {
				for _, s := range list {
					if strings.Trim(s, " \t\r\n\v\f") != s || s == "" {
						t.Errorf("%q has the value %q", value, s)
					}
				}
			}
		}
	})
}
