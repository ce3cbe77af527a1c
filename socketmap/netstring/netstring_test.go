package netstring_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"tlspolicyd/socketmap/netstring"
)

const limit = 20

var accepted = []struct {
	name, in string
	want     []string
}{
	{"nothing", "", nil},
	{"one", "3:abc,", []string{"abc"}},
	{"empty payload", "0:,", []string{""}},
	{"two in one segment", "1:a,2:bc,", []string{"a", "bc"}},
	{"empty among others", "1:a,0:,1:b,", []string{"a", "", "b"}},
	{"a payload that looks like a frame", "4:1:a,,", []string{"1:a,"}},
	{"bytes of any value", "4:\x00\xff\r\n,", []string{"\x00\xff\r\n"}},
	{"exactly the limit", "20:" + strings.Repeat("x", 20) + ",", []string{strings.Repeat("x", 20)}},
}

// rejected frames come after a good one, which must have been read.
var rejected = []struct {
	name, in string
	want     error
}{
	{"leading zero", "03:abc,", netstring.ErrSyntax},
	{"two zeros", "00:,", netstring.ErrSyntax},
	{"no length", ":abc,", netstring.ErrSyntax},
	{"negative length", "-1:a,", netstring.ErrSyntax},
	{"sign", "+1:a,", netstring.ErrSyntax},
	{"blank before", " 1:a,", netstring.ErrSyntax},
	{"blank in the length", "1 :a,", netstring.ErrSyntax},
	{"hexadecimal", "a:0123456789,", netstring.ErrSyntax},
	{"no digit at all", "GET / HTTP/1.1\r\n", netstring.ErrSyntax},
	{"other digits", "\xd9\xa3:abc,", netstring.ErrSyntax},
	{"missing comma", "3:abcd", netstring.ErrSyntax},
	{"newline for the comma", "3:abc\n", netstring.ErrSyntax},
	{"payload longer than said", "2:abc,", netstring.ErrSyntax},
	{"one above the limit", "21:", netstring.ErrTooLong},
	{"far above the limit", "4294967296:", netstring.ErrTooLong},
	{"overflow of 64 bits", "18446744073709551617:a,", netstring.ErrTooLong},
	{"an endless length", strings.Repeat("9", 1000), netstring.ErrTooLong},
	{"end after a digit", "3", io.ErrUnexpectedEOF},
	{"end after the colon", "3:", io.ErrUnexpectedEOF},
	{"end in the payload", "3:ab", io.ErrUnexpectedEOF},
	{"end before the comma", "3:abc", io.ErrUnexpectedEOF},
	{"end after the length of nothing", "0", io.ErrUnexpectedEOF},
}

// readers deliver the same bytes in different pieces.
var readers = []struct {
	name string
	wrap func(io.Reader) io.Reader
}{
	{"at once", func(r io.Reader) io.Reader { return r }},
	{"byte by byte", iotest.OneByteReader},
	{"in halves", iotest.HalfReader},
	{"last bytes with the error", iotest.DataErrReader},
}

func readAll(r io.Reader) (frames []string, err error) {
	nr := netstring.NewReader(r, limit)
	for {
		frame, err := nr.ReadFrame()
		if err != nil {
			return frames, err
		}
		frames = append(frames, string(frame))
	}
}

func TestReadFrame(t *testing.T) {
	for _, r := range readers {
		for _, tt := range accepted {
			t.Run(r.name+"/"+tt.name, func(t *testing.T) {
				got, err := readAll(r.wrap(strings.NewReader(tt.in)))
				if !errors.Is(err, io.EOF) {
					t.Errorf("error is %v, want io.EOF", err)
				}
				if strings.Join(got, "|") != strings.Join(tt.want, "|") || len(got) != len(tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestReadFrameRejects(t *testing.T) {
	for _, r := range readers {
		for _, tt := range rejected {
			t.Run(r.name+"/"+tt.name, func(t *testing.T) {
				got, err := readAll(r.wrap(strings.NewReader("2:ok," + tt.in)))
				if !errors.Is(err, tt.want) {
					t.Errorf("error is %v, want %v", err, tt.want)
				}
				if len(got) != 1 || got[0] != "ok" {
					t.Errorf("frames before the error are %q, want one", got)
				}
			})
		}
	}
}

// A length above the limit is refused by its digits: no byte of the payload
// is waited for.
func TestTooLongBeforePayload(t *testing.T) {
	r, w := io.Pipe()
	go func() { // neither a colon nor a payload follow
		if _, err := w.Write([]byte("21")); err != nil {
			t.Errorf("writing: %v", err)
		}
	}()
	_, err := netstring.NewReader(r, limit).ReadFrame()
	if !errors.Is(err, netstring.ErrTooLong) {
		t.Errorf("error is %v, want %v", err, netstring.ErrTooLong)
	}
}

// A limit of one digit holds too.
func TestSmallLimit(t *testing.T) {
	for in, want := range map[string]error{"5:abcde,": nil, "6:": netstring.ErrTooLong, "9:": netstring.ErrTooLong} {
		_, err := netstring.NewReader(strings.NewReader(in), 5).ReadFrame()
		if !errors.Is(err, want) {
			t.Errorf("%q: error is %v, want %v", in, err, want)
		}
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("1:a,2:b"), iotest.ErrReader(broken))
	got, err := readAll(r)
	if len(got) != 1 || !errors.Is(err, broken) {
		t.Errorf("got %q, %v, want one frame and the stream's error", got, err)
	}
	if _, err := readAll(emptyReader{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error is %v, want io.ErrNoProgress", err)
	}
}

// emptyReader returns nothing, for ever.
type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestBuffered(t *testing.T) {
	tests := []struct {
		name, rest string
		want       bool
	}{
		{"nothing", "", false},
		{"part of a length", "1", false},
		{"part of a payload", "5:ab", false},
		{"all but the comma", "2:ab", false},
		{"a frame", "2:ab,", true},
		{"a malformed length", "x", true},
		{"a length above the limit", "99", true},
		{"a wrong end", "2:abc", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := netstring.NewReader(strings.NewReader("1:a,"+tt.rest), limit)
			if r.Buffered() {
				t.Error("something is buffered before the first read")
			}
			if _, err := r.ReadFrame(); err != nil {
				t.Fatal(err)
			}
			if got := r.Buffered(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// A large frame needs a large buffer only while it is read.
func TestRelease(t *testing.T) {
	big := strings.Repeat("x", 100_000)
	stream := netstring.Append(nil, big)
	stream = netstring.Append(stream, "small")
	r := netstring.NewReader(bytes.NewReader(stream), len(big))
	for _, want := range []string{big, "small"} {
		got, err := r.ReadFrame()
		if err != nil || string(got) != want {
			t.Fatalf("got %d bytes, %v, want %d bytes", len(got), err, len(want))
		}
		r.Release()
	}
}

func TestAppend(t *testing.T) {
	tests := []struct {
		parts []string
		want  string
	}{
		{nil, "0:,"},
		{[]string{""}, "0:,"},
		{[]string{"abc"}, "3:abc,"},
		{[]string{"NOTFOUND", " ", ""}, "9:NOTFOUND ,"},
	}
	for _, tt := range tests {
		if got := string(netstring.Append([]byte("x"), tt.parts...)); got != "x"+tt.want {
			t.Errorf("Append(%q) = %q, want %q", tt.parts, got, "x"+tt.want)
		}
	}
}

// What is read is the same however it is cut into pieces, what is read can be
// written again, and no two streams give the same frames.
func FuzzReader(f *testing.F) {
	for _, tt := range accepted {
		f.Add([]byte(tt.in))
	}
	for _, tt := range rejected {
		f.Add([]byte("2:ok," + tt.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		frames, err := readAll(bytes.NewReader(in))
		pieces, errPieces := readAll(iotest.OneByteReader(bytes.NewReader(in)))
		if len(frames) != len(pieces) || err.Error() != errPieces.Error() {
			t.Fatalf("at once: %q, %v; byte by byte: %q, %v", frames, err, pieces, errPieces)
		}
		var again []byte
		for i, frame := range frames {
			if frame != pieces[i] {
				t.Fatalf("frame %d is %q at once and %q byte by byte", i, frame, pieces[i])
			}
			if len(frame) > limit {
				t.Fatalf("frame of %d bytes, limit is %d", len(frame), limit)
			}
			again = netstring.Append(again, frame)
		}
		if !bytes.HasPrefix(in, again) || errors.Is(err, io.EOF) && len(again) != len(in) {
			t.Fatalf("%q was read as %q, %v", in, frames, err)
		}
	})
}

// repeat delivers one frame for ever.
type repeat struct {
	frame []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.frame[r.at:])
	r.at = (r.at + n) % len(r.frame)
	return n, nil
}

func TestReadFrameDoesNotAllocate(t *testing.T) {
	r := netstring.NewReader(&repeat{frame: netstring.Append(nil, "policy example.com")}, 10_256)
	if _, err := r.ReadFrame(); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(1000, func() {
		if _, err := r.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per frame, want none", n)
	}
}

func BenchmarkReadFrame(b *testing.B) {
	r := netstring.NewReader(&repeat{frame: netstring.Append(nil, "policy example.com")}, 10_256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = netstring.Append(buf[:0], "OK", " ", "secure match=mx.example.com servername=hostname")
	}
}
