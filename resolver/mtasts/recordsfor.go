package mtasts

import (
	"fmt"
	"time"

	"tlspolicyd/resolver/policy"
)

// RecordsFor returns the TXT records that announce a policy of domain, as lines
// of a zone file: the record of MTA-STS, whose id is now in UTC, and the record
// that asks for reports (RFC 8460, section 3), whose address is an example.
func RecordsFor(now time.Time, domain policy.Domain) []string {
	// RFC 8461, section 3.1: an id consists of letters and digits.
	id := now.UTC().Format("20060102T150405Z")
	return []string{
		fmt.Sprintf("_mta-sts.%s. IN TXT \"v=STSv1; id=%s\"", domain, id),
		fmt.Sprintf("_smtp._tls.%s. IN TXT \"v=TLSRPTv1; rua=mailto:tls-reports@%s\"", domain, domain),
	}
}
