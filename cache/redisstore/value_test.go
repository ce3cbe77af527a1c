package redisstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/cache/storetest"
)

// fixed is a record with fixed times.
func fixed(t testing.TB, name string) cache.Record {
	r := storetest.Record(t, name, time.Unix(1767225600, 0))
	r.Fetched = time.Unix(1767225600, 0)
	r.Expires, r.LastUse = r.Fetched.Add(time.Hour), r.Fetched
	return r
}

func mustEncode(t testing.TB, r cache.Record) []byte {
	t.Helper()
	b, err := encodeValue(&r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValuesSurviveEncoding(t *testing.T) {
	r := fixed(t, "example.com")
	b := mustEncode(t, r)
	if want := "1 1767225600 "; !strings.HasPrefix(string(b), want) {
		t.Errorf("the value begins with %.40q, want %q", b, want)
	}
	got, err := decodeValue(b, r.Domain)
	if err != nil || !storetest.Equal(got, r) {
		t.Errorf("got %+v, %v, want %+v", got, err, r)
	}
}

// Whoever changes what a value is changes its version, so that relays of the
// one before find theirs.
func TestTheFormOfAVersionStays(t *testing.T) {
	sum := sha256.Sum256(mustEncode(t, fixed(t, "example.com")))
	if got, want := fmt.Sprintf("%d %x", valueVersion, sum[:8]), "1 c18a01eab46f3fc6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestValuesThatAreNotOurs(t *testing.T) {
	r := fixed(t, "example.com")
	good := string(mustEncode(t, r))
	line, body, _ := strings.Cut(good, "\n")
	later, other := r, r
	later.Fetched, other.ID = r.Fetched.Add(time.Second), "2"
	none := cache.Record{Domain: r.Domain, LastUse: r.LastUse}
	bare, err := none.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"nothing":                  "",
		"a line":                   line,
		"a line and its end":       line + "\n",
		"a record without a line":  body,
		"an empty line":            "\n" + body,
		"the line of a later one":  header(&later) + body,
		"the line of another id":   header(&other) + body,
		"a version of tomorrow":    "2" + good[1:],
		"a blank at the end":       line + " \n" + body,
		"a blank in the beginning": " " + good,
		"a leading zero":           strings.Replace(good, "1 17", "1 017", 1),
		"capitals":                 strings.ToUpper(line) + "\n" + body,
		"the end missing":          good[:len(good)-1],
		"more at the end":          good + "x",
		"too much":                 good + strings.Repeat("x", maxValue),
		"another domain":           string(mustEncode(t, fixed(t, "example.net"))),
		"no policy":                header(&none) + string(bare),
	} {
		if got, err := decodeValue([]byte(value), r.Domain); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("%s: got %+v, %v, want ErrDamaged", name, got, err)
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	r := fixed(t, "example.com")
	good := mustEncode(t, r)
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if got, err := decodeValue(b, r.Domain); !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("byte %d, bit %d: %+v, %v", i, bit, got, err)
			}
		}
	}
}

func TestLongestRecordHasRoom(t *testing.T) {
	r := fixed(t, strings.Repeat("a23456789.", 24)+"example.test0")
	r.Text = strings.Repeat("x", 64<<10)
	r.Failure.At, r.Failure.Reason = r.Fetched, strings.Repeat("x", 4<<10)
	mustEncode(t, r)
	r.Text = strings.Repeat("x", maxValue)
	if _, err := encodeValue(&r); err == nil {
		t.Error("a value that nobody would read is written")
	}
}

// What is hashed for one policy is never what is hashed for another.
func TestDigestsTellPoliciesApart(t *testing.T) {
	seen := map[string]string{}
	for _, p := range [][2]string{{"", "12"}, {"1", "2"}, {"12", ""}, {"1", "2\n"}, {"1\x00", "2"}, {"1", "\x002"}} {
		d := digest(&cache.Record{ID: p[0], Text: p[1]})
		if other, found := seen[d]; found {
			t.Errorf("%q has the digest of %q", p, other)
		}
		seen[d] = p[0] + "|" + p[1]
	}
}

// FuzzDecodeValue: whatever the bytes are, decoding them does not panic, an
// error is ErrDamaged, and what is accepted is what would have been written.
func FuzzDecodeValue(f *testing.F) {
	r := fixed(f, "example.com")
	good := mustEncode(f, r)
	f.Add(good, false)
	f.Add(good, true)
	f.Add([]byte("1 99999999999999999999 x\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, record bool) {
		if record { // what is after the line, with a line that fits
			r, err := cache.DecodeRecord(b)
			if err != nil {
				return
			}
			b = append([]byte(header(&r)), b...)
		}
		r, err := decodeValue(b, r.Domain)
		if err != nil {
			if !errors.Is(err, cache.ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		if !hasPolicy(&r) {
			t.Errorf("no policy: %+v", r)
		}
		again, err := decodeValue(mustEncode(t, r), r.Domain)
		if err != nil || !storetest.Equal(again, r) {
			t.Errorf("got %+v, %v, want %+v", again, err, r)
		}
	})
}
