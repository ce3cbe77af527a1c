package policy

import (
	"testing"
	"time"
)

func BenchmarkParseDomain(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseDomain("mail.d000123.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInForce(b *testing.B) {
	now := time.Now()
	s := STS{Policy: &STSPolicy{Mode: ModeEnforce, MaxAge: time.Hour}, Fetched: now.Add(-time.Minute)}
	for b.Loop() {
		if !s.InForce(now) {
			b.Fatal("not in force")
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	now := time.Now()
	domain := Domain{"example.com"}
	s := STS{Policy: &STSPolicy{Mode: ModeEnforce, MaxAge: time.Hour}, Fetched: now.Add(-time.Minute)}
	d := DANE{MX: MXInsecure, Learned: now, Expires: now.Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		if v := Decide(now, domain, &s, &d, ClassSTS); v.Kind != Secure {
			b.Fatal(v.Kind)
		}
	}
}
