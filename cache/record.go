package cache

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"tlspolicyd/resolver/policy"
)

// Record is what a store keeps of a domain: what was learned, as it was
// learned, and never an answer in the syntax of Postfix. Times are wall-clock
// times.
type Record struct {
	Domain policy.Domain

	// Text is the policy file as it was fetched, ID the id of the TXT record
	// under which it was fetched, Fetched when. Text is empty and Fetched
	// zero where no policy was ever fetched.
	Text    string
	ID      string
	Fetched time.Time
	// Expires is Fetched plus the policy's max_age; from then on the record
	// is kept for a while, but the policy is not applied.
	Expires time.Time

	// Refresh is when the policy is to be fetched again; zero means never.
	Refresh time.Time
	// LastUse is when somebody last asked for the domain, to the day.
	LastUse time.Time
	// Failure is the last fetch, if it failed.
	Failure policy.Failure
	// Churn counts changes of the id that changed nothing else.
	Churn policy.Churn
}

// Unreadable reports whether r is what Store.Scan has of a record that cannot be
// read: nothing but the domain.
func (r *Record) Unreadable() bool { return r.Fetched.IsZero() && r.Failure.At.IsZero() }

// recordVersion is the first byte of an encoded record. It changes when an old
// program would misread a new record; a field that an old program may ignore
// does not change it.
const recordVersion = 1

// headerSize is the version and the checksum.
const headerSize = 1 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordJSON is all of a record but the policy file. Names are short, since there
// may be millions; absent fields are zero. Times are seconds of Unix time.
type recordJSON struct {
	Domain  string       `json:"d"`
	ID      string       `json:"id,omitempty"`
	Fetched int64        `json:"fetched,omitempty"`
	Expires int64        `json:"expires,omitempty"`
	Refresh int64        `json:"refresh,omitempty"`
	LastUse int64        `json:"used,omitempty"`
	Failure *failureJSON `json:"failure,omitempty"`
	Churn   *churnJSON   `json:"churn,omitempty"`
}

type failureJSON struct {
	ID     string `json:"id,omitempty"`
	At     int64  `json:"at"`
	Count  int    `json:"n"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

type churnJSON struct {
	Count int   `json:"n"`
	Since int64 `json:"since"`
}

// Encode returns the record as bytes for a store: one byte of version, the
// CRC-32C of what follows in four bytes, a line of JSON, and the policy file,
// byte for byte. The checksum finds damage, not forgery.
func (r *Record) Encode() ([]byte, error) {
	body := recordJSON{
		Domain: r.Domain.String(), ID: r.ID,
		Fetched: toUnix(r.Fetched), Expires: toUnix(r.Expires),
		Refresh: toUnix(r.Refresh), LastUse: toUnix(r.LastUse),
	}
	if f := r.Failure; !f.At.IsZero() {
		body.Failure = &failureJSON{ID: f.ID, At: toUnix(f.At), Count: f.Count, Kind: f.Kind, Reason: f.Reason}
	}
	if c := r.Churn; c.Count != 0 {
		body.Churn = &churnJSON{Count: c.Count, Since: toUnix(c.Since)}
	}
	line, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding the record of %s: %w", r.Domain, err)
	}
	b := make([]byte, headerSize, headerSize+len(line)+1+len(r.Text))
	b = append(b, line...)
	b = append(b, '\n')
	b = append(b, r.Text...)
	b[0] = recordVersion
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[headerSize:], castagnoli))
	return b, nil
}

// DecodeRecord reads what Encode wrote. An error wraps ErrDamaged, also for a
// version that is not known: whatever the bytes are, they are not "no record".
func DecodeRecord(b []byte) (Record, error) {
	if len(b) < headerSize {
		return Record{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if b[0] != recordVersion {
		return Record{}, fmt.Errorf("%w: version %d, known is %d", ErrDamaged, b[0], recordVersion)
	}
	b, sum := b[headerSize:], binary.BigEndian.Uint32(b[1:])
	if got := crc32.Checksum(b, castagnoli); got != sum {
		return Record{}, fmt.Errorf("%w: checksum %08x, want %08x", ErrDamaged, got, sum)
	}
	line, text, _ := bytes.Cut(b, []byte{'\n'})
	var body recordJSON
	if err := json.Unmarshal(line, &body); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return body.record(string(text))
}

func (body *recordJSON) record(text string) (Record, error) {
	domain, err := policy.ParseDomain(body.Domain)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r := Record{
		Domain: domain, Text: text, ID: body.ID,
		Fetched: fromUnix(body.Fetched), Expires: fromUnix(body.Expires),
		Refresh: fromUnix(body.Refresh), LastUse: fromUnix(body.LastUse),
	}
	if f := body.Failure; f != nil {
		r.Failure = policy.Failure{ID: f.ID, At: fromUnix(f.At), Count: f.Count, Kind: f.Kind, Reason: f.Reason}
	}
	if c := body.Churn; c != nil {
		r.Churn = policy.Churn{Count: c.Count, Since: fromUnix(c.Since)}
	}
	return r, nil
}

func toUnix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
