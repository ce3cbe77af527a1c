package admin

import "time"

// Status is what the daemon says of itself. The names of the members of this
// object and of all others here are an interface. Times that are not known are
// left out.
type Status struct {
	Version   string      `json:"version"`
	Started   time.Time   `json:"started"`
	Now       time.Time   `json:"now"`
	Listeners []string    `json:"listeners"`
	DANE      bool        `json:"dane_enabled"`
	DNS       []DNSServer `json:"dns"`
	Stats
}

// DNSServer is a server that the daemon asks. Test is untested, passed, failed
// or silent; only one whose AD bit counts and whose test passed tells about
// DANE.
type DNSServer struct {
	Address string    `json:"address"`
	Trusted bool      `json:"trusted"`
	Test    string    `json:"test"`
	Detail  string    `json:"detail,omitempty"`
	Tested  time.Time `json:"tested,omitzero"`
}

// Stats says how much the daemon remembers, and what it is behind with.
type Stats struct {
	// Policies and Absences are the domains in memory.
	Policies int `json:"memory_policies"`
	Absences int `json:"memory_absences"`
	// Unwritten records wait to be written to the store, Unshared domains to be
	// saved in the shared store or removed from it, Overdue refreshes to be
	// started; Expiring policies are past half of their life while their
	// refresh fails.
	Unwritten int `json:"unwritten"`
	Unshared  int `json:"unshared"`
	Overdue   int `json:"overdue"`
	Expiring  int `json:"expiring"`

	Store StoreStats `json:"store"`
	// LastStoreError is the last error of the store since the start.
	LastStoreError *StoreError `json:"last_store_error,omitempty"`

	// Shared is the shared store; nil where there is none.
	Shared *SharedStore `json:"shared,omitempty"`
}

// SharedStore says how the shared store is: whether it can be reached, since
// when that is so, and the last error.
type SharedStore struct {
	Address string    `json:"address"`
	Up      bool      `json:"up"`
	Since   time.Time `json:"since,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// StoreStats says how much the store holds. Kind is "file" or "memory".
type StoreStats struct {
	Kind     string `json:"kind"`
	Path     string `json:"path,omitempty"`
	Policies int64  `json:"policies"`
	Failures int64  `json:"failures"`
	// Bytes is the size of the records, File that of the file, and Limit what
	// that may grow to.
	Bytes int64 `json:"bytes"`
	File  int64 `json:"file_bytes,omitempty"`
	Limit int64 `json:"limit_bytes"`
	// ReadOnly says that the file cannot be written to at present, and
	// Damaged counts damaged files that are being copied.
	ReadOnly bool `json:"read_only,omitempty"`
	Damaged  int  `json:"damaged_files,omitempty"`
	// Error is why the rest is not known.
	Error string `json:"error,omitempty"`
}

// StoreError is an access to the store that failed: load, save, remove or due.
type StoreError struct {
	At    time.Time `json:"at"`
	Op    string    `json:"op"`
	Error string    `json:"error"`
}

// Page is a part of the list of domains in the store. Next is the domain after
// which the next page begins; empty if there is none.
type Page struct {
	Domains []Row  `json:"domains"`
	Next    string `json:"next,omitempty"`
}

// Row is a domain in the store. Mode is empty where no policy was ever fetched,
// and "unreadable" if its text is no policy or the record is damaged.
type Row struct {
	Domain  string    `json:"domain"`
	Mode    string    `json:"mode,omitempty"`
	ID      string    `json:"id,omitempty"`
	Fetched time.Time `json:"fetched,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Refresh time.Time `json:"refresh,omitzero"`
	Used    time.Time `json:"used,omitzero"`
	Failure *Failure  `json:"failure,omitempty"`
}

// Domain is all that is known of a domain.
type Domain struct {
	Domain string    `json:"domain"`
	Now    time.Time `json:"now"`
	Known  bool      `json:"known"`
	// Source is where the policy and the record come from: memory, unwritten
	// or store.
	Source string    `json:"source,omitempty"`
	Used   time.Time `json:"used,omitzero"`

	Policy  *Policy  `json:"policy,omitempty"`
	Record  *TXT     `json:"record,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
	Churn   *Churn   `json:"churn,omitempty"`
	// Lost says that the store may have known a policy and cannot say which,
	// DamagedSince since when.
	Lost         bool      `json:"lost,omitempty"`
	DamagedSince time.Time `json:"damaged_since,omitzero"`
	// Expiring says that the policy is past half of its life while its
	// refresh fails.
	Expiring bool `json:"expiring,omitempty"`

	Hops []NextHop `json:"next_hops,omitempty"`

	// Stored is what the store holds, Unwritten whether it is yet to be given
	// something.
	Stored     *Row   `json:"stored,omitempty"`
	StoreError string `json:"store_error,omitempty"`
	Unwritten  bool   `json:"unwritten,omitempty"`

	// Shared is what the shared store holds; it answers nothing by itself.
	Shared      *Row   `json:"shared,omitempty"`
	SharedError string `json:"shared_error,omitempty"`

	UnderWay []Step `json:"under_way,omitempty"`
	Next     []Step `json:"next,omitempty"`
}

// Policy is the policy fetched last, in force or expired. Text is the file, in
// which bytes that are not UTF-8 are replaced.
type Policy struct {
	InForce bool      `json:"in_force"`
	Mode    string    `json:"mode"`
	MaxAge  int64     `json:"max_age"`
	MX      []string  `json:"mx,omitempty"`
	ID      string    `json:"id"`
	Fetched time.Time `json:"fetched"`
	Expires time.Time `json:"expires"`
	Refresh time.Time `json:"refresh,omitzero"`
	Text    string    `json:"text"`
}

// TXT is the last look at the TXT record: absent, found or failed.
type TXT struct {
	State   string    `json:"state"`
	Detail  string    `json:"detail,omitempty"`
	Looked  time.Time `json:"looked"`
	Recheck time.Time `json:"recheck"`
}

// Failure is the last fetch, if it failed.
type Failure struct {
	ID     string    `json:"id,omitempty"`
	At     time.Time `json:"at"`
	Count  int       `json:"count"`
	Kind   string    `json:"kind"`
	Reason string    `json:"reason"`
}

// Churn counts the changes of the id that changed nothing else.
type Churn struct {
	Count int       `json:"count"`
	Since time.Time `json:"since"`
}

// NextHop is what DNSSEC says of a next-hop.
type NextHop struct {
	NextHop string    `json:"next_hop"`
	MX      string    `json:"mx"`
	Detail  string    `json:"detail,omitempty"`
	Hosts   []Host    `json:"hosts,omitempty"`
	Learned time.Time `json:"learned"`
	Expires time.Time `json:"expires"`
}

// Host is an MX host.
type Host struct {
	Name       string `json:"name"`
	Preference uint16 `json:"preference"`
	State      string `json:"state"`
	Detail     string `json:"detail,omitempty"`
}

// Step is something that began or is due at a time, in words.
type Step struct {
	At   time.Time `json:"at"`
	What string    `json:"what"`
}

// Refreshed is how a refresh ended: fetched, failed, absent, "too soon" or
// unknown. Policy is what applies, or applied last, after it.
type Refreshed struct {
	Domain  string    `json:"domain"`
	Now     time.Time `json:"now"`
	Result  string    `json:"result"`
	Policy  *Policy   `json:"policy,omitempty"`
	Record  *TXT      `json:"record,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
}

// Purged is how many domains were forgotten.
type Purged struct {
	Purged int `json:"purged"`
}
