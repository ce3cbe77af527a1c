package mtasts

import "tlspolicyd/resolver/policy"

// Where the policy of a domain is (RFC 8461, section 3.3).
const (
	// PolicyHostPrefix is before the domain in the name of its policy host.
	PolicyHostPrefix = "mta-sts."
	// PolicyPath is the path of the file on the policy host.
	PolicyPath = "/.well-known/mta-sts.txt"
)

// PolicyHost returns the name of the policy host of a domain.
func PolicyHost(domain policy.Domain) string { return PolicyHostPrefix + domain.String() }

// PolicyURL returns the URL of the policy file of a domain.
func PolicyURL(domain policy.Domain) string { return "https://" + PolicyHost(domain) + PolicyPath }
