package check

import (
	"fmt"
	"slices"
	"strings"

	"tlspolicyd/resolver/mtasts"
)

// fetchRemedies say what to do about a fetch that failed, by the kind of the
// failure. HOST is the policy host, URL that of the policy.
var fetchRemedies = map[string]string{
	"dns":     "publish an address for HOST",
	"address": "give HOST a public address; for a policy host inside of your own network, set sts.allow_networks",
	"connect": "let a web server answer at port 443 of HOST; if it does elsewhere, a firewall here may be in the way",
	"tls":     "give HOST a certificate for that name, in date, of a known authority, with its intermediate certificates",
	"status":  "serve the file at URL itself, with status 200 and no redirect",
	"type":    "serve the file on HOST as text/plain, without compression",
	"size":    "shorten the policy on HOST: wildcards need few lines",
	"timeout": "make HOST answer sooner; if it does elsewhere, a firewall here may be in the way",
}

// fetchRemedy says how the domain makes its policy good.
func (r *Report) fetchRemedy() string {
	if r.policyHostUnknown() {
		return r.dnsRemedy()
	}
	if remedy := r.fetchRemedyHere(); remedy != "" {
		return remedy
	}
	if remedy, ok := fetchRemedies[r.STS.Failure.Kind]; ok {
		named := strings.NewReplacer("HOST", mtasts.PolicyHost(r.Hop.Domain), "URL", mtasts.PolicyURL(r.Hop.Domain))
		return theirs + named.Replace(remedy)
	}
	for _, f := range r.Fetch.Findings {
		if f.Severity == mtasts.SeverityError && f.Suggestion != "" {
			return theirs + f.Suggestion
		}
	}
	return theirs + "repair the policy file; tlspolicyd lint shows how"
}

// fetchRemedyHere says what to do about a fetch that failed for want of something
// on this machine; empty if that is not so.
func (r *Report) fetchRemedyHere() string {
	kind, throughProxy := r.STS.Failure.Kind, func(a Attempt) bool { return strings.HasPrefix(a.Target, mtasts.ProxyTarget) }
	switch {
	case kind == "tls" && r.Fetch.TLS == nil: // it did not come to a handshake
		return "give this machine certificates of authorities (package ca-certificates), or name them in sts.ca_file"
	case kind == "connect" && slices.ContainsFunc(r.Fetch.Attempts, throughProxy):
		return fmt.Sprintf("see that the proxy of sts.proxy runs, and connects this machine to port 443 of %s", mtasts.PolicyHost(r.Hop.Domain))
	default:
		return ""
	}
}

// policyHostUnknown reports whether the address of the policy host could not be
// looked up, which is not to have none.
func (r *Report) policyHostUnknown() bool {
	for _, s := range r.DNS {
		if s.Name == mtasts.PolicyHost(r.Hop.Domain) && s.Err != nil && r.STS.Failure.Kind == "dns" {
			return true
		}
	}
	return false
}
