package dnsclient

import (
	"encoding/binary"
	"testing"

	"github.com/miekg/dns"
)

// question is the question for TXT records of a.test, as bytes: it ends at
// offset 24.
const question = "\x01a\x04test\x00\x00\x10\x00\x01"

// raw makes a message that announces n answers.
func raw(n uint16, answers string) []byte {
	msg := []byte{0x12, 0x34, 0x81, 0xa0, 0, 1, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(msg[6:], n)
	return append(append(msg, question...), answers...)
}

func TestUnpack(t *testing.T) {
	const record = "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x01x"
	tests := []struct {
		what string
		msg  []byte
		want int // Records; -1 for malformed.
	}{
		{"no record", raw(0, ""), 0},
		{"one record", raw(1, record), 1},
		{"rubbish behind the records", raw(1, record+"\xff\xff"), 1},
		{"fewer records than announced", raw(2, record), -1},
		{"none of those announced", raw(1, ""), -1},
		{"half a record", raw(1, record[:len(record)-1]), -1},
		{"half a header", raw(1, record[:6]), -1},
		{"data beyond the end", raw(1, "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x03\x01x"), -1},
		{"a string beyond its data", raw(1, "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x02\x02xy"), -1},
		{"a name that points to itself", raw(1, "\xc0\x18"+record[2:]), -1},
		{"names that point to each other", raw(1, "\xc0\x1a\xc0\x18"+record[2:]), -1},
		{"a name that points beyond the end", raw(1, "\xff\xff"+record[2:]), -1},
		{"an alias that points to itself", raw(1, "\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x24"), -1},
		{"a reserved kind of label", raw(1, "\x80\x0c"+record[2:]), -1},
		{"an address of 3 bytes", raw(1, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x03\x01\x02\x03"), -1},
		{"the header only, with a count", raw(1, "")[:headerSize], -1},
	}
	for _, tt := range tests {
		m, err := unpack(tt.msg)
		if tt.want < 0 {
			if err == nil || kindOf(t.Context(), err) != KindMalformed {
				t.Errorf("%s: got %v, want malformed", tt.what, err)
			}
			continue
		}
		if err != nil || len(m.Answer) != tt.want {
			t.Errorf("%s: got %v, %v, want %d records", tt.what, m, err, tt.want)
		}
	}
}

// A message without data for a record is read, but the record is not used.
func TestRecordWithoutData(t *testing.T) {
	m, err := unpack(raw(1, "\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x3c\x00\x00"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = newChain("a.test.", dns.TypeTXT).add(m, Secure)
	if err == nil || kindOf(t.Context(), err) != KindMalformed {
		t.Errorf("got %v, want malformed", err)
	}
}

// "Cannot know" is the zero value of every word that stands for an error.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := KindNetwork; k <= KindName; k++ {
		if seen[k.String()] {
			t.Errorf("two kinds are %q", k)
		}
		seen[k.String()] = true
	}
	if got := new(Error).Result(); got != "network" {
		t.Errorf("the zero error is %q", got)
	}
}
