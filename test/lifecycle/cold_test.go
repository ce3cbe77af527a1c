//go:build e2e

package lifecycle_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"tlspolicyd/test/world"
)

// However many clients ask for a domain that nobody has asked for before, and
// however each writes it, one question about the record is asked, and one
// fetch made.
func TestManyClientsOfAColdDomain(t *testing.T) {
	t.Parallel()
	const domain, clients = "xn--bcher-kva.test", 500
	spellings := []string{"xn--bcher-kva.test", "XN--BCHER-KVA.test.", "bücher.test", "BÜCHER.TEST", "bücher。test"}
	ports := []string{"", ":25", ":smtp", ":587", ":submission"}
	maps := []string{"policy", "POLICY", "postfix", "policy-dane", "QUERY", "of-another-name"}
	w, d := start(t, world.Options{Recheck: time.Minute})
	w.Publish(t, domain, "1", enforce("mx", domain, day))
	// Nothing is known for long enough that all of them wait.
	w.DNS.Delay("_mta-sts."+domain, "TXT", 500*time.Millisecond)
	w.DNS.Reset()
	begin := make(chan struct{})
	replies := make([]string, clients)
	var wg sync.WaitGroup
	for i := range clients {
		client, err := d.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		key := spellings[i%len(spellings)] + ports[i/len(spellings)%len(ports)]
		wg.Go(func() {
			<-begin
			reply, err := client.Lookup(t.Context(), maps[i%len(maps)], key)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			replies[i] = reply.String()
		})
	}
	close(begin)
	wg.Wait()
	slices.Sort(replies)
	if got := slices.Compact(replies); !slices.Equal(got, []string{secure("mx", domain)}) {
		t.Errorf("the replies are %q, want %q", got, secure("mx", domain))
	}
	if n := w.DNS.Count("TXT"); n != 1 {
		t.Errorf("%d questions for a TXT record, want 1", n)
	}
	if n := w.Hosts.Fetches(domain); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	// The next-hops at ports 25 and 587 have an MX lookup each.
	if n := w.DNS.Count("MX"); n != 2 {
		t.Errorf("%d questions for MX records, want 2", n)
	}
}

// A domain without a policy costs one question to the DNS, and one with a
// policy four at most.
func TestWhatAColdDomainCosts(t *testing.T) {
	t.Parallel()
	w, d := start(t, world.Options{Recheck: time.Minute})
	w.Publish(t, "with.test", "1", enforce("mx", "with.test", day))
	w.TXT(t, "without.test")
	for domain, most := range map[string][]string{
		"with.test":    {"TXT", "MX", "A", "AAAA"},
		"without.test": {"TXT"},
		"nowhere.test": {"TXT"},
	} {
		w.DNS.Reset()
		for range 3 {
			d.Ask(t, domain)
		}
		for _, q := range w.DNS.Queries() {
			// The test of the DNS server itself comes when it likes.
			if q.Name != "." && !slices.Contains(most, q.Type) {
				t.Errorf("%s: a question for %s %s, want one each of %s at most", domain, q.Name, q.Type, most)
			}
		}
		for _, qtype := range most {
			if n := w.DNS.Count(qtype); n > 1 {
				t.Errorf("%s: %d questions for %s, want one", domain, n, qtype)
			}
		}
	}
}
