package cache

import (
	"bytes"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"tlspolicyd/resolver/policy"
)

func fullRecord(t testing.TB) Record {
	t.Helper()
	at := time.Unix(1767225600, 0)
	return Record{
		Domain: dom(t, "example.com"),
		Text:   "version: STSv1\r\nmode: enforce\nmx: a\x00b\xff\nmax_age: 1\n\n",
		ID:     "20260101", Fetched: at, Expires: at.Add(time.Hour),
		Refresh: at.Add(time.Minute), LastUse: at.Add(time.Second),
		Failure: policy.Failure{ID: "2", At: at.Add(2 * time.Second), Count: 3, Kind: "tls", Reason: "certificate is for \"other.example\"\n"},
		Churn:   policy.Churn{Count: 4, Since: at.Add(3 * time.Second)},
	}
}

func TestRecordsSurviveEncoding(t *testing.T) {
	full := fullRecord(t)
	failure := Record{Domain: full.Domain, Failure: full.Failure}
	large := full
	large.Text = strings.Repeat("\x00\n", 32<<10)
	for name, r := range map[string]Record{
		"full": full, "only a failure": failure, "64 KiB": large, "only a domain": {Domain: full.Domain},
	} {
		b, err := r.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := DecodeRecord(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got != r {
			t.Errorf("%s: got %+v, want %+v", name, got, r)
		}
	}
}

func TestRecordsAreKeptToTheSecond(t *testing.T) {
	r := fullRecord(t)
	r.Fetched = r.Fetched.Add(999 * time.Millisecond)
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.Fetched.Truncate(time.Second); !got.Fetched.Equal(want) {
		t.Errorf("got %s, want %s: never later than it was", got.Fetched, want)
	}
}

func TestDamagedRecords(t *testing.T) {
	r := fullRecord(t)
	good, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]byte{
		"nothing":       nil,
		"only a header": good[:headerSize],
		"version 0":     append([]byte{0}, good[1:]...),
		"version 2":     append([]byte{2}, good[1:]...),
		"not JSON":      sealed("{\n"),
		"no domain":     sealed("{}\ntext"),
		"a bad domain":  sealed(`{"d":"a..b"}` + "\n"),
		"wrong types":   sealed(`{"d":"example.com","fetched":"now"}` + "\n"),
	}
	for name, b := range tests {
		if r, err := DecodeRecord(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %+v, %v, want ErrDamaged", name, r, err)
		}
	}
}

// sealed puts a header that fits before body.
func sealed(body string) []byte {
	sum := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	return append([]byte{recordVersion, byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, body...)
}

func TestEveryFlippedBitAndEveryCutIsFound(t *testing.T) {
	r := fullRecord(t)
	good, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, err := DecodeRecord(good[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut at %d: %v", i, err)
		}
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := DecodeRecord(b); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

// FuzzDecodeRecord: whatever the bytes are, decoding them does not panic, an
// error is ErrDamaged, and what is accepted is encoded to what decodes to the
// same.
func FuzzDecodeRecord(f *testing.F) {
	r := fullRecord(f)
	good, err := r.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[headerSize:])
	f.Add([]byte(`{"d":"EXAMPLE.com.","failure":{"at":0,"n":-1}}`))
	f.Add([]byte(`{"d":"example.com","fetched":-9223372036854775808,"expires":9223372036854775807}` + "\nx"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := DecodeRecord(body); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("unsealed: %v", err)
		}
		r, err := DecodeRecord(sealed(string(body)))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("sealed: %v", err)
			}
			return
		}
		b, err := r.Encode()
		if err != nil {
			t.Fatalf("%+v cannot be encoded: %v", r, err)
		}
		again, err := DecodeRecord(b)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		b2, err := again.Encode()
		if err != nil || !bytes.Equal(b, b2) {
			t.Errorf("got %+v, want %+v (%v)", again, r, err)
		}
	})
}
