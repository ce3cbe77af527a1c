package policy

import "time"

// MXState is the outcome of the lookup of a next-hop's MX hosts.
type MXState uint8

// The outcomes. The zero value is the one that must not be mistaken for "no".
const (
	// MXFailed: not known; the lookup failed or was never made.
	MXFailed MXState = iota
	// MXOff: DANE is not looked at; every host counts as plain.
	MXOff
	// MXInsecure: the answer was not validated by DNSSEC.
	MXInsecure
	// MXNone: the domain does not exist or takes no mail (RFC 7505).
	MXNone
	// MXSecure: the hosts are known, validated by DNSSEC. A smart host, and a
	// domain without MX records whose absence is validated, are their own
	// hosts.
	MXSecure
)

// String returns the state as a word.
func (s MXState) String() string {
	switch s {
	case MXOff:
		return "off"
	case MXInsecure:
		return "insecure"
	case MXNone:
		return "none"
	case MXSecure:
		return "secure"
	default:
		return "failed"
	}
}

// HostState is what DANE says of one MX host (RFC 7672, section 2.2).
type HostState uint8

// The states of a host. The zero value is the one that must not be mistaken
// for "no".
const (
	// HostFailed: its CNAME or TLSA lookup failed after a secure address.
	HostFailed HostState = iota
	// HostPlain: no secure TLSA records, or an insecure address.
	HostPlain
	// HostUsable: secure TLSA records, at least one of them usable.
	HostUsable
	// HostUnusable: secure TLSA records, none of them usable.
	HostUnusable
	// HostUnreachable: an address lookup failed, and the other gave none.
	HostUnreachable
)

// String returns the state as a word.
func (s HostState) String() string {
	switch s {
	case HostPlain:
		return "plain"
	case HostUsable:
		return "usable"
	case HostUnusable:
		return "unusable"
	case HostUnreachable:
		return "unreachable"
	default:
		return "failed"
	}
}

// MXHost is one host that takes mail for a next-hop.
type MXHost struct {
	Name       string
	Preference uint16
	State      HostState
	// Detail says why, for people; empty where the state says all.
	Detail string
}

// DANE is the fact that is kept by next-hop. The zero value says that nothing
// is known. Hosts without any address are not in it.
type DANE struct {
	MX MXState
	// Hosts are ordered by preference, then name. Only for MXSecure.
	Hosts []MXHost
	// Detail says why the MX lookup failed, for people.
	Detail string
	// Learned is when the fact was learned, Expires when it must not be used
	// any more: from then on it counts as failed.
	Learned time.Time
	Expires time.Time
}

// Off returns the fact that stands for every next-hop when DANE is not looked
// at, as of now.
func Off(now time.Time) DANE {
	return DANE{MX: MXOff, Learned: now, Expires: now.Add(maxOff)}
}

// maxOff is the life of a fact that no lookup stands behind.
const maxOff = time.Hour

// Fresh reports whether the fact may be used at now.
func (d *DANE) Fresh(now time.Time) bool {
	return now.Before(d.Expires)
}

// hostCount counts the hosts that are left, by state.
type hostCount struct {
	all, plain, usable, unusable, failed int
	// bestUsable says that every host of the best preference is usable.
	bestUsable bool
}

// count counts hosts. Unreachable ones are left out as long as any other is
// left; if none is, all count as failed.
func (d *DANE) count() hostCount {
	n := hostCount{bestUsable: true}
	best := -1
	for _, h := range d.Hosts {
		if h.State == HostUnreachable {
			continue
		}
		if best < 0 || int(h.Preference) < best {
			best, n.bestUsable = int(h.Preference), true
		}
		if int(h.Preference) == best && h.State != HostUsable {
			n.bestUsable = false
		}
		n.add(h.State)
	}
	if n.all == 0 && len(d.Hosts) > 0 {
		return hostCount{all: len(d.Hosts), failed: len(d.Hosts)}
	}
	return n
}

func (n *hostCount) add(s HostState) {
	n.all++
	switch s {
	case HostPlain:
		n.plain++
	case HostUsable:
		n.usable++
	case HostUnusable:
		n.unusable++
	default:
		n.failed++
	}
}
