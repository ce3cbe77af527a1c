package redisstore

import (
	"net/url"
	"reflect"
	"testing"
)

func TestTargets(t *testing.T) {
	for text, want := range map[string]target{
		"redis://a":                       {hosts: []string{"a:6379"}},
		"redis://a:1/15":                  {hosts: []string{"a:1"}, db: 15},
		"rediss://relay@[2001:db8::1]":    {hosts: []string{"[2001:db8::1]:6379"}, tls: true, user: "relay"},
		"rediss://[2001:db8::1]:7":        {hosts: []string{"[2001:db8::1]:7"}, tls: true},
		"redis+sentinel://u@a,b:1/m/3":    {hosts: []string{"a:26379", "b:1"}, service: "m", db: 3, user: "u"},
		"rediss+sentinel://a/m":           {hosts: []string{"a:26379"}, service: "m", tls: true},
		"redis+cluster://a:1,192.0.2.1:2": {hosts: []string{"a:1", "192.0.2.1:2"}, cluster: true},
		"rediss+cluster://a,b:7000":       {hosts: []string{"a:6379", "b:7000"}, cluster: true, tls: true},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseTarget(u); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"http://a", "redis+x://a", "redis://", "redis:a", "redis://a,b:1", "redis://a/b", "redis://a/-1", "redis://a/99999",
		"redis+sentinel://a", "redis+sentinel://a/", "redis+cluster://a/1",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseTarget(u); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

func TestNobodySeesTheUser(t *testing.T) {
	u, err := url.Parse("rediss+sentinel://relay:secret@a:1,b:2/m/3")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := address(u), "rediss+sentinel://a:1,b:2/m/3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if u.User.Username() != "relay" {
		t.Error("the URL itself was changed")
	}
}
