package boltstore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"tlspolicyd/cache"
	"tlspolicyd/resolver/policy"
)

// fileFormat is the version of what is in the buckets. It changes when an old
// program would misread a new file.
const fileFormat = 1

// The buckets. In due, expiry and failed a key is eight bytes of Unix time,
// big-endian, and the domain, and the values are empty. In expired it is the
// running time at which the end of a policy was seen (see runningTime), and
// the value is the Unix time of that end. The sequence that bbolt has for each bucket
// counts the commits, in bucketMeta.
const (
	bucketMeta    = "meta"
	bucketRecords = "records" // domain: the record as cache.Record encodes it
	bucketDue     = "due"     // by Refresh
	bucketExpiry  = "expiry"  // records with a policy, by Expires
	bucketExpired = "expired" // those of bucketExpiry that have ended, by running time
	bucketFailed  = "failed"  // records without one, by the time of the failure
	bucketRemoved = "removed" // domains removed while a damaged file was copied
)

// buckets are all of them.
var buckets = []string{bucketMeta, bucketRecords, bucketDue, bucketExpiry, bucketExpired, bucketFailed, bucketRemoved}

// The keys of bucketMeta.
const (
	metaFormat  = "format"  // one byte
	metaTotals  = "totals"  // three numbers of eight bytes
	metaClock   = "clock"   // see runningTime
	metaSources = "sources" // damaged files that are yet to be copied, a line for each
	metaLost    = "lost"    // Unix time until which what was lost in a copy is called damaged
)

// totals counts what is in the file.
type totals struct {
	records, failures, bytes int64
}

func (t totals) encode() []byte {
	return slices.Concat(number(t.records), number(t.failures), number(t.bytes))
}

func decodeTotals(b []byte) totals {
	if len(b) != 24 {
		return totals{}
	}
	return totals{records: readNumber(b), failures: readNumber(b[8:]), bytes: readNumber(b[16:])}
}

// readMetaBucket reads what the file says of itself.
func (v *view) readMetaBucket() error {
	about, ok := v.buckets[bucketMeta]
	if !ok {
		return fmt.Errorf("%w: it has no bucket %q", ErrForeign, bucketMeta)
	}
	format, err := about.find([]byte(metaFormat))
	if err != nil || len(format) != 1 || format[0] == 0 {
		return fmt.Errorf("%w: format %x", errDamage, format)
	}
	if v.format = format[0]; v.format > fileFormat {
		return fmt.Errorf("%w: format %d, known is %d", ErrNewer, v.format, fileFormat)
	}
	for _, name := range buckets {
		if _, ok := v.buckets[name]; !ok {
			return fmt.Errorf("%w: bucket %q is missing", errDamage, name)
		}
	}
	b, err := about.find([]byte(metaTotals))
	if err == nil {
		v.totals = decodeTotals(b)
	}
	return nil
}

// indexKey is an entry of an index.
type indexKey struct{ bucket, key string }

// entry is a record as it is kept.
type entry struct {
	domain string
	data   []byte
	record cache.Record
	// damaged says that data cannot be read, and record is empty.
	damaged bool
}

// newEntry makes an entry of what is kept under a domain.
func newEntry(domain string, data []byte) *entry {
	e := &entry{domain: domain, data: data}
	r, err := cache.DecodeRecord(data)
	if err != nil || r.Domain.String() != domain {
		e.damaged = true
		return e
	}
	e.record = r
	return e
}

// hasPolicy reports whether the record is more than a failure. One that cannot
// be read may be.
func (e *entry) hasPolicy() bool { return e.damaged || !e.record.Fetched.IsZero() }

// index returns the entries of the indices that lead to the record.
func (e *entry) index() []indexKey {
	if e.damaged {
		return nil
	}
	keys := make([]indexKey, 0, 2)
	if !e.record.Refresh.IsZero() {
		keys = append(keys, indexKey{bucketDue, timeKey(e.record.Refresh, e.domain)})
	}
	if e.hasPolicy() {
		return append(keys, indexKey{bucketExpiry, timeKey(e.record.Expires, e.domain)})
	}
	return append(keys, indexKey{bucketFailed, timeKey(e.record.Failure.At, e.domain)})
}

// timeKey is a key of an index. Times before 1970 count as 1970.
func timeKey(t time.Time, domain string) string {
	return string(number(t.Unix())) + domain
}

// number is eight bytes in which n, if it is not below zero, sorts.
func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(max(n, 0))) }

// readNumber is the inverse of number.
func readNumber(b []byte) int64 {
	if len(b) < 8 {
		return 0
	}
	return int64(min(binary.BigEndian.Uint64(b), 1<<62))
}

// keyDomain returns the domain of a key that timeKey made.
func keyDomain(key string) (domain policy.Domain, ok bool) {
	if len(key) <= 8 {
		return policy.Domain{}, false
	}
	domain, err := policy.ParseDomain(key[8:])
	return domain, err == nil && domain.String() == key[8:]
}
