package metrics

// The values of the label tier: what is known without a store, what the
// store of this machine holds, and what that of a fleet does.
const (
	tierMemory = "memory"
	tierLocal  = "local"
	tierShared = "shared"
)

// addCache makes what counts the use of what is remembered.
func (m *Metrics) addCache() {
	m.lookups = newFamily(m.registry, "tlspolicyd_cache_lookups_total",
		"Questions to the cache by where the answer came from.", "outcome",
		"memory", "store", "shared", "flight", "resolved")
	m.refreshes = newFamily(m.registry, "tlspolicyd_refresh_total",
		"Refreshes of policies by their outcome.", "result",
		"ok", "failed", "skipped", "shared")
	m.changes = newFamily(m.registry, "tlspolicyd_policy_changes_total",
		"Fetches that changed what is known of a domain, by the kind of change.", "change",
		"new", "stronger", "weaker", "changed", "removed")
	m.storeErrors = newPairs(m.registry, "tlspolicyd_store_errors_total",
		"Accesses to a store that failed.", [2]string{"tier", "op"},
		[]string{tierLocal, tierShared}, []string{"load", "save", "remove", "due", "news"})
}

// Lookup counts a question, for cache.
func (m *Metrics) Lookup(outcome string) { m.lookups.count(outcome) }

// Refreshed counts a refresh, for cache.
func (m *Metrics) Refreshed(result string) { m.refreshes.count(result) }

// PolicyChanged counts a change of a policy, for cache.
func (m *Metrics) PolicyChanged(change string) { m.changes.count(change) }

// StoreFailed counts an access to a store that failed, for cache.
func (m *Metrics) StoreFailed(tier, op string) { m.storeErrors.count(pair{tier, op}) }
