package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"

	"tlspolicyd/internal/config"
	"tlspolicyd/resolver/mtasts"
	"tlspolicyd/resolver/policy"
)

// Policies are fetched from where mail servers fetch them, and from nowhere else
// (RFC 8461, section 3.3).
var (
	errPolicyURL  = errors.New("a policy is at https://" + mtasts.PolicyHostPrefix + "DOMAIN" + mtasts.PolicyPath + ", and nowhere else")
	errPolicyPort = errors.New("mail servers ask for a policy at port 443 only, so its URL has no other")
)

// policyDomain returns the domain whose policy is at a URL.
func policyDomain(text string) (policy.Domain, error) {
	u, err := url.Parse(text)
	if err != nil || !isPolicyURL(u) {
		return policy.Domain{}, fmt.Errorf("%w: %q", errPolicyURL, text)
	}
	if port := u.Port(); port != "" && port != "443" {
		return policy.Domain{}, fmt.Errorf("%w: %q", errPolicyPort, text)
	}
	domain, err := policy.ParseDomain(u.Hostname()[len(mtasts.PolicyHostPrefix):])
	if err != nil {
		return policy.Domain{}, fmt.Errorf("%q: %w", text, err)
	}
	return domain, nil
}

// isPolicyURL reports whether a URL is that of a policy, but for its port.
func isPolicyURL(u *url.URL) bool {
	return u.Scheme == "https" && u.User == nil && strings.HasPrefix(strings.ToLower(u.Hostname()), mtasts.PolicyHostPrefix) &&
		u.Path == mtasts.PolicyPath && u.RawQuery == "" && u.Fragment == ""
}

// readURL returns the policy file of a domain.
func readURL(ctx context.Context, file *configFile, domain policy.Domain) (string, error) {
	c, err := file.load()
	if err != nil {
		return "", err
	}
	return fetchPolicy(ctx, c, domain)
}

// fetchPolicy fetches the policy file of a domain as the daemon does.
func fetchPolicy(ctx context.Context, c *config.Config, domain policy.Domain) (string, error) {
	client, err := newDNS(c, nil, zap.NewNop())
	if err != nil {
		return "", err
	}
	fetcher, err := newSTS(c, client, nil, zap.NewNop())
	if err != nil {
		return "", err
	}
	text, fetched := "", false
	ctx = mtasts.WithTrace(ctx, &mtasts.Trace{Text: func(s string) { text, fetched = s, true }})
	fact := fetcher.Fetch(ctx, domain, policy.STS{Wanted: "lint"})
	if fetched {
		return text, nil
	}
	return "", fmt.Errorf("fetching the policy of %s: %s", domain, fact.Failure.Reason)
}
