package policy

import "time"

// Class is the kind of map that asks: how far the answer may go.
type Class uint8

// The classes of maps.
const (
	// ClassSTSOnly answers for MTA-STS and does not look at DANE.
	ClassSTSOnly Class = iota + 1
	// ClassSTS answers for MTA-STS, and knows when DANE goes before it.
	ClassSTS
	// ClassDANE answers for DANE too where there is no enforce policy.
	ClassDANE
)

// Kind is the answer itself.
type Kind uint8

// The answers. The zero value is the one that delivers no mail.
const (
	// Temp: it cannot be known now; Postfix defers the mail.
	Temp Kind = iota
	// NotFound: none of our business; Postfix's own level applies.
	NotFound
	// DANEWhereFound: DANE for each MX host that has it, Postfix level dane.
	DANEWhereFound
	// DANEOnly: DANE or no delivery, Postfix level dane-only.
	DANEOnly
	// Secure: a host and a certificate that the policy allows, or no
	// delivery; Postfix level secure.
	Secure
)

// String returns the value of the label result in metrics.
func (k Kind) String() string {
	switch k {
	case NotFound:
		return "notfound"
	case DANEWhereFound:
		return "dane"
	case DANEOnly:
		return "dane_only"
	case Secure:
		return "secure"
	default:
		return "temp"
	}
}

// Verdict is the decision about mail to one next-hop.
type Verdict struct {
	Kind   Kind
	Domain Domain
	// Policy is the policy to enforce; only for Secure.
	Policy *STSPolicy
	// Reason says why, for people: a constant text. Detail is what the facts
	// add to it, with text of the domain's own in it; it may be empty.
	Reason, Detail string
}

// NeedsDANE reports whether the decision depends on the DANE fact.
func NeedsDANE(now time.Time, sts *STS, class Class) bool {
	return class.needsDANE(sts.Enforces(now))
}

func (c Class) needsDANE(enforces bool) bool { return c == ClassDANE || c == ClassSTS && enforces }

// Decide draws the verdict about mail to a next-hop of domain. It is pure: the
// facts are judged as of now, the moment at which Postfix asked. A fact that
// was learned while the question waited is judged as of then too, so one whose
// life is over at once (max_age 0, TTL 0) still counts for the question that
// caused it to be learned.
//
// The rows, from top to bottom; "hosts" are those that are left, see [DANE]:
//
//	MX answer and hosts                        enforce      else, STS    else, DANE
//	insecure, none, off, or every host plain   secure       not found    not found
//	failed, or some failed and none usable     temp         not found    dane
//	only unusable and plain                    secure       not found    dane
//	all usable                                 dane-only    not found    dane-only
//	some usable, some failed                   dane-only    not found    dane
//	some usable, others not, best all usable   dane-only    not found    dane
//	some usable, others not, best not          secure       not found    dane
//
// dane never goes with an enforce policy, since hosts without TLSA records
// would fall to cleartext. dane-only goes with it only where Postfix can reach
// a usable host first. Over an insecure MX answer DANE is optional (RFC 7672,
// section 2.2.1) and an enforce policy is not (RFC 8461, section 5).
func Decide(now time.Time, domain Domain, sts *STS, dane *DANE, class Class) Verdict {
	v := Verdict{Domain: domain}
	if sts.Lost && !sts.InForce(now) {
		v.Kind, v.Reason = Temp, reasonLost
		return v
	}
	if enforces := sts.Enforces(now); !class.needsDANE(enforces) {
		v.Kind, v.Reason = withoutDANE(now, sts)
	} else {
		r := rowOf(now, dane)
		v.Reason, v.Detail = r.reason, dane.Detail
		v.Kind = r.dane
		if enforces {
			v.Kind = r.enforce
		}
	}
	if v.Kind == Secure {
		v.Policy = sts.Policy
	}
	return v
}

// Reasons of the answers that need no DANE fact.
const (
	reasonLost    = "what was known of this domain cannot be read, and the network gives no policy"
	reasonEnforce = "the domain enforces MTA-STS; DANE is not looked at"
	reasonTesting = "the domain's MTA-STS policy is in testing"
	reasonNone    = "the domain's MTA-STS policy is none"
	reasonExpired = "the domain's MTA-STS policy has expired and no new one can be had"
	reasonAbsent  = "the domain has no MTA-STS policy"
)

// withoutDANE answers from the STS fact alone.
func withoutDANE(now time.Time, sts *STS) (Kind, string) {
	switch {
	case sts.Policy == nil:
		return NotFound, reasonAbsent
	case !sts.InForce(now):
		return NotFound, reasonExpired
	case sts.Policy.Mode == ModeEnforce:
		return Secure, reasonEnforce
	case sts.Policy.Mode == ModeTesting:
		return NotFound, reasonTesting
	default:
		return NotFound, reasonNone
	}
}

// row is one row of the table of [Decide].
type row struct {
	enforce, dane Kind
	reason        string
}

var (
	rowInsecure   = row{Secure, NotFound, "the MX records are not signed, so DANE does not bind"}
	rowNone       = row{Secure, NotFound, "the domain has no MX host"}
	rowOff        = row{Secure, NotFound, "DANE is not looked at"}
	rowPlain      = row{Secure, NotFound, "no MX host has DANE"}
	rowUnknown    = row{Temp, DANEWhereFound, "the DANE lookup did not end in time, so DANE cannot be ruled out"}
	rowMXFailed   = row{Temp, DANEWhereFound, "the MX lookup failed, so DANE cannot be ruled out"}
	rowHostFailed = row{Temp, DANEWhereFound, "the DANE lookup of an MX host failed, and no other host has usable DANE"}
	rowUnusable   = row{Secure, DANEWhereFound, "no TLSA record of any MX host is usable"}
	rowUsable     = row{DANEOnly, DANEOnly, "every MX host has DANE"}
	rowSomeFailed = row{DANEOnly, DANEWhereFound, "some MX hosts have DANE, and for others the lookup failed"}
	rowBestUsable = row{DANEOnly, DANEWhereFound, "every MX host of the best preference has DANE"}
	rowPartial    = row{Secure, DANEWhereFound, "not every MX host of the best preference has DANE"}
)

// rowOf finds the row for a DANE fact as of now.
func rowOf(now time.Time, d *DANE) row {
	if !d.Fresh(now) {
		return rowUnknown
	}
	switch d.MX {
	case MXOff:
		return rowOff
	case MXInsecure:
		return rowInsecure
	case MXNone:
		return rowNone
	case MXSecure:
		return rowOfHosts(d.count())
	default:
		return rowMXFailed
	}
}

func rowOfHosts(n hostCount) row {
	switch {
	case n.all == 0:
		return rowNone
	case n.plain == n.all:
		return rowPlain
	case n.usable == 0 && n.failed > 0:
		return rowHostFailed
	case n.usable == 0:
		return rowUnusable
	case n.usable == n.all:
		return rowUsable
	case n.failed > 0:
		return rowSomeFailed
	case n.bestUsable:
		return rowBestUsable
	default:
		return rowPartial
	}
}
