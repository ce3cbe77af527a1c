package redisstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// maxValue is the longest value that is written, and read: a policy file of
// 64 KiB and what else is in a record.
const maxValue = 72 << 10

// A value is a line that a script on the server can read, and the record as
// every store keeps it. The line holds the version of this form, the time of
// the fetch in seconds of Unix time, and a digest of the policy and its id:
//
//	1 1767225600 5f70bf18a086007016e948b04aed3b82
//
// The version stands for that of the record too.
const valueVersion = 1

func header(r *cache.Record) string {
	return fmt.Sprintf("%d %d %s\n", valueVersion, r.Fetched.Unix(), digest(r))
}

// digest tells policies apart, and the ids under which they were fetched.
func digest(r *cache.Record) string {
	b := binary.AppendUvarint(nil, uint64(len(r.ID)))
	b = append(append(b, r.ID...), r.Text...)
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// encodeValue returns the value for a record that holds a policy.
func encodeValue(r *cache.Record) ([]byte, error) {
	record, err := r.Encode()
	if err != nil {
		return nil, err
	}
	value := append([]byte(header(r)), record...)
	if len(value) > maxValue {
		return nil, fmt.Errorf("the record of %s has %d bytes, which is more than any that makes sense", r.Domain, len(value))
	}
	return value, nil
}

// decodeValue reads what encodeValue wrote for domain. Anything else is
// cache.ErrDamaged: whoever can write to the database can have written it.
func decodeValue(b []byte, domain policy.Domain) (cache.Record, error) {
	if len(b) > maxValue {
		return cache.Record{}, fmt.Errorf("%w: longer than %d bytes", cache.ErrDamaged, maxValue)
	}
	line, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found {
		return cache.Record{}, fmt.Errorf("%w: a value of another program", cache.ErrDamaged)
	}
	r, err := cache.DecodeRecord(rest)
	switch {
	case err != nil:
		return cache.Record{}, err
	case r.Domain != domain:
		return cache.Record{}, fmt.Errorf("%w: the record of another domain, %s", cache.ErrDamaged, r.Domain)
	case !hasPolicy(&r):
		return cache.Record{}, fmt.Errorf("%w: a record without a policy", cache.ErrDamaged)
	case string(line)+"\n" != header(&r):
		return cache.Record{}, fmt.Errorf("%w: the first line is not that of the record", cache.ErrDamaged)
	}
	return r, nil
}

func hasPolicy(r *cache.Record) bool {
	return r.Text != "" && !r.Fetched.IsZero()
}
