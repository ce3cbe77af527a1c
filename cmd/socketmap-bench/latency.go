package main

import (
	"math/bits"
	"time"
)

const (
	// subBits is how many bits of a duration are kept below its highest one:
	// a quantile is known to one part in 2^subBits.
	subBits    = 7
	subBuckets = 1 << subBits
	// buckets is enough for durations of up to 2^44 ns, almost five hours.
	buckets = (44 - subBits + 1) * subBuckets
)

// latencies counts durations. The zero value is empty.
type latencies struct {
	counts [buckets]uint64
	n      uint64
	sum    time.Duration
	max    time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.counts[bucketOf(d)]++
	l.n++
	l.sum += d
	l.max = max(l.max, d)
}

func (l *latencies) merge(other *latencies) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.n += other.n
	l.sum += other.sum
	l.max = max(l.max, other.max)
}

// quantile returns the duration that the given share of all does not exceed.
func (l *latencies) quantile(share float64) time.Duration {
	rank := uint64(share * float64(l.n))
	var seen uint64
	for i, n := range l.counts {
		seen += n
		if n > 0 && seen > rank {
			return min(l.max, upperBound(i))
		}
	}
	return l.max
}

func (l *latencies) mean() time.Duration {
	if l.n == 0 {
		return 0
	}
	return l.sum / time.Duration(l.n)
}

// bucketOf numbers durations so that neighbours differ by less than one part
// in 2^subBits.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return min(shift*subBuckets+int(v>>shift), buckets-1)
}

// upperBound is the longest duration in a bucket.
func upperBound(bucket int) time.Duration {
	if bucket < 2*subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	return time.Duration((bucket-shift*subBuckets+1)<<shift - 1)
}
