package cache

// How a question was answered, the label outcome of Metrics.Lookup.
const (
	// OutcomeMemory: from memory, without waiting.
	OutcomeMemory = "memory"
	// OutcomeStore: from a policy in force that the store held.
	OutcomeStore = "store"
	// OutcomeShared: from a policy in force that another relay had fetched.
	OutcomeShared = "shared"
	// OutcomeFlight: by waiting for a lookup that another question, or a
	// refresh, had started.
	OutcomeFlight = "flight"
	// OutcomeResolved: by asking the network.
	OutcomeResolved = "resolved"
)

// How a refresh ended, the label result of Metrics.Refreshed.
const (
	RefreshOK      = "ok"
	RefreshFailed  = "failed"
	RefreshSkipped = "skipped"
	// RefreshShared: another relay had fetched the policy.
	RefreshShared = "shared"
)

// What a fetch did to a policy, the label change of Metrics.PolicyChanged.
const (
	// ChangeNew: there was no policy in force.
	ChangeNew = "new"
	// ChangeStronger: a stricter mode.
	ChangeStronger = "stronger"
	// ChangeWeaker: a laxer mode that is not none, or a shorter max_age.
	ChangeWeaker = "weaker"
	// ChangeOther: other MX hosts, or a longer max_age.
	ChangeOther = "changed"
	// ChangeRemoved: mode none in place of another.
	ChangeRemoved = "removed"
)

// What failed, the label op of Metrics.StoreFailed.
const (
	opLoad   = "load"
	opSave   = "save"
	opDue    = "due"
	opRemove = "remove"
	opNews   = "news"
)

// Which store failed, the label tier of Metrics.StoreFailed.
const (
	TierLocal  = "local"
	TierShared = "shared"
)

// Metrics counts what the cache does. It is safe for concurrent use.
type Metrics interface {
	// Lookup counts a question by one of the outcomes above.
	Lookup(outcome string)
	// Refreshed counts a refresh by its result.
	Refreshed(result string)
	// PolicyChanged counts a fetch that changed a policy.
	PolicyChanged(change string)
	// StoreFailed counts an access to a store that failed: load, save, due,
	// remove; news only of the shared one.
	StoreFailed(tier, op string)
}

type noMetrics struct{}

func (noMetrics) Lookup(string)              {}
func (noMetrics) Refreshed(string)           {}
func (noMetrics) PolicyChanged(string)       {}
func (noMetrics) StoreFailed(string, string) {}
