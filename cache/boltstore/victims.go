package boltstore

import "time"

const (
	// fewVictims is how many entries of an index are read at a time, and
	// maxVictims how many of each index in one commit.
	fewVictims = 64
	maxVictims = 4096
)

// victims are the records that one index leads to and that may give way to
// others, in the order of the index.
type victims struct {
	bucket string
	// until is the last key number that counts.
	until int64
	// fits says whether a record may go.
	fits func(e *entry) bool

	next   string // where in the index to look for more
	looked int
	found  []victim
}

// victim is a record that may give way, and the entry that led to it.
type victim struct {
	*entry
	key  string
	from *victims
}

// newVictims returns what may give way at now, in the order in which it does:
// failures, the oldest first; then policies that have expired, those first that
// were seen so for longest. A policy in force never does.
func newVictims(now time.Time) (failures *victims, all []*victims) {
	const ever = 1 << 62
	expired := func(e *entry) bool { return !e.damaged && e.hasPolicy() && !e.record.Expires.After(now) }
	failures = &victims{bucket: bucketFailed, until: ever, fits: func(e *entry) bool { return !e.hasPolicy() }}
	return failures, []*victims{
		failures,
		{bucket: bucketExpired, until: ever, fits: expired},
		{bucket: bucketExpiry, until: now.Unix(), fits: expired},
	}
}

// makeRoom sees to it that need more bytes can be used. What may give way does
// so, if there is enough of it.
func (p *planner) makeRoom(need int64) error {
	if p.room >= need {
		p.room -= need
		return nil
	}
	var out []victim
	free := max(p.room, 0)
	for free < need {
		v, err := p.nextVictim()
		if err != nil {
			return err
		}
		if v.entry == nil {
			for _, v := range out {
				v.from.found = append(v.from.found, v)
			}
			return ErrFull
		}
		out = append(out, v)
		free += int64(len(v.data) + len(v.domain)*3)
	}
	for _, v := range out {
		p.giveWay(v)
	}
	p.room = free - need
	return nil
}

// limitFailures lets the oldest failures give way when there are too many.
func (p *planner) limitFailures() error {
	for p.totals.failures > p.maxFailures {
		v, err := p.failures.take(p)
		if v.entry == nil || err != nil {
			return err
		}
		p.giveWay(v)
	}
	return nil
}

func (p *planner) giveWay(v victim) {
	p.drop(indexKey{v.from.bucket, v.key})
	p.replace(v.domain, v.entry, nil)
}

// nextVictim returns what gives way next; nothing when there is no more.
func (p *planner) nextVictim() (victim, error) {
	for _, from := range p.victims {
		if v, err := from.take(p); err != nil || v.entry != nil {
			return v, err
		}
	}
	return victim{}, nil
}

// take returns the next record that was in the file before this commit and is
// not changed by it; nothing when there is none.
func (s *victims) take(p *planner) (victim, error) {
	for {
		if len(s.found) == 0 {
			more, err := s.find(p)
			if err != nil || !more {
				return victim{}, err
			}
			continue
		}
		v := s.found[0]
		s.found = s.found[1:]
		if _, changed := p.edits[indexKey{bucketRecords, v.domain}]; !changed {
			return v, nil
		}
	}
}

// find reads the next few entries of the index, and reports whether there were
// any.
func (s *victims) find(p *planner) (more bool, err error) {
	keys, err := p.view.keysUpTo(s.bucket, s.next, s.until, min(fewVictims, maxVictims-s.looked))
	if err != nil || len(keys) == 0 {
		return false, err
	}
	s.looked += len(keys)
	s.next = keys[len(keys)-1] + "\x00"
	for _, k := range keys {
		if err := s.look(p, indexKey{s.bucket, k}); err != nil {
			return false, err
		}
	}
	return true, nil
}

// look adds the record that an entry leads to if it may give way. An entry that
// leads nowhere is dropped, or enough of them would hide all others.
func (s *victims) look(p *planner, k indexKey) error {
	value, err := p.get(k.bucket, k.key)
	if err != nil {
		return ignoreNone(err)
	}
	var e *entry
	if domain, ok := keyDomain(k.key); ok {
		if e, err = p.load(domain.String()); err != nil {
			return err
		}
	}
	switch {
	case e == nil || !e.leads(k, value):
		p.drop(k)
	case s.fits(e):
		s.found = append(s.found, victim{e, k.key, s})
	case k.bucket == bucketExpired && !e.damaged:
		// The clock was wrong when it was seen expired.
		p.drop(k)
		p.put(bucketExpiry, timeKey(e.record.Expires, e.domain), nil)
	}
	return nil
}
