package main

import (
	"fmt"

	"go.uber.org/zap"

	"tlspolicyd/internal/config"
	"tlspolicyd/resolver/dnsclient"
	"tlspolicyd/resolver/mtasts"
)

// newDNS makes what asks the DNS, for the daemon and for the commands that look
// things up themselves. Nobody counts where m is nil.
func newDNS(c *config.Config, m dnsclient.Metrics, log *zap.Logger) (*dnsclient.Client, error) {
	servers := make([]string, len(c.DNS.Servers))
	for i, s := range c.DNS.Servers {
		servers[i] = s.String()
	}
	return dnsclient.New(dnsclient.Options{
		Servers:  servers,
		Timeout:  c.DNS.Timeout,
		Attempts: c.DNS.Attempts,
		TrustAD:  c.DNS.TrustAD,
		Log:      log.Named("dns"),
		Metrics:  m,
	})
}

// newSTS makes what looks at records and fetches policies, likewise.
func newSTS(c *config.Config, dns mtasts.DNS, m mtasts.Metrics, log *zap.Logger) (*mtasts.Resolver, error) {
	sts, err := mtasts.New(mtasts.Options{
		DNS:           dns,
		Recheck:       c.Cache.Recheck,
		Refresh:       c.Cache.Refresh,
		FetchTimeout:  c.STS.FetchTimeout,
		CAFile:        c.STS.CAFile,
		AllowNetworks: c.STS.AllowNetworks,
		Proxy:         c.STS.Proxy,
		UserAgent:     "tlspolicyd/" + programVersion(),
		Log:           log.Named("mtasts"),
		Metrics:       m,
	})
	if err != nil {
		return nil, fmt.Errorf("policy fetches: %w", err)
	}
	return sts, nil
}
