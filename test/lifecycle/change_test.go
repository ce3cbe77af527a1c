//go:build e2e

package lifecycle_test

import (
	"testing"
	"time"

	"tlspolicyd/resolver/dnstest"
	"tlspolicyd/test/world"
)

// A change that its owner announces with a new id is in force a recheck and a
// query later: that query still gets the old policy, and sets off the fetch.
func TestNewID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, from, to, before, after string
	}{
		{"other hosts", world.Enforce(day, "a.test"), world.Enforce(day, "b.test"), world.Secure("a.test"), world.Secure("b.test")},
		{"testing to enforce", world.Testing(day, "a.test"), world.Enforce(day, "a.test"), world.NotFound, world.Secure("a.test")},
		{"enforce to testing", world.Enforce(day, "a.test"), world.Testing(day, "a.test"), world.Secure("a.test"), world.NotFound},
		{"enforce to none", world.Enforce(day, "a.test"), world.None(day), world.Secure("a.test"), world.NotFound},
		{"none to enforce", world.None(day), world.Enforce(day, "a.test"), world.NotFound, world.Secure("a.test")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const domain = "changes.test"
			w, d := start(t, world.Options{})
			w.Publish(t, domain, "1", c.from)
			want(t, d, domain, c.before)
			w.Publish(t, domain, "2", c.to)
			time.Sleep(recheck + slack/10)
			want(t, d, domain, c.before)
			eventually(t, d, domain, c.before, c.after, slack)
			watch(t, d, domain, 2*recheck).want(t, c.after)

			w.Die()
			d = restart(t, w, d, world.Options{})
			want(t, d, domain, c.after)
		})
	}
}

// trouble is something that goes wrong with a domain after its policy was
// learned.
type trouble struct {
	name string
	make func(t *testing.T, w *world.World, domain string)
	// fetched says that the policy host is asked, too.
	fetched bool
}

func troubles() []trouble {
	txt := func(f dnstest.Fault) func(*testing.T, *world.World, string) {
		return func(_ *testing.T, w *world.World, domain string) { w.DNS.Fault("_mta-sts."+domain, "TXT", f) }
	}
	host := func(s world.State) func(*testing.T, *world.World, string) {
		return func(t *testing.T, w *world.World, domain string) {
			w.Hosts.Turn(domain, s)
			w.Publish(t, domain, "2", enforce("new", domain, day))
		}
	}
	return []trouble{
		{name: "TXT gone", make: func(t *testing.T, w *world.World, domain string) { w.TXT(t, domain) }},
		{name: "TXT twice", make: func(t *testing.T, w *world.World, domain string) {
			w.TXT(t, domain, world.Record("2"), world.Record("3"))
		}},
		{name: "TXT NODATA", make: txt(dnstest.NoData)},
		{name: "TXT SERVFAIL", make: txt(dnstest.ServFail)},
		{name: "TXT refused", make: txt(dnstest.Refused)},
		{name: "TXT malformed", make: txt(dnstest.Malformed)},
		{name: "TXT without answer", make: txt(dnstest.Drop)},
		{name: "new id, 404", make: host(world.Missing), fetched: true},
		{name: "new id, bad certificate", make: host(world.Untrusted), fetched: true},
		{name: "new id, garbage", make: host(world.Garbage), fetched: true},
		{name: "new id, host hangs", make: host(world.Hanging), fetched: true},
		{name: "new id, host dead", make: host(world.Dead), fetched: true},
	}
}

// Whatever the DNS and the policy host do, the policy that was learned goes on
// being answered, as fast as ever; and when they are well again, the change
// that they held up comes into force.
func TestTrouble(t *testing.T) {
	t.Parallel()
	w, d := start(t, world.Options{})
	for i, c := range troubles() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			domain := string(rune('a'+i)) + ".trouble.test"
			record := "_mta-sts." + domain
			w.Publish(t, domain, "1", enforce("old", domain, day))
			want(t, d, domain, secure("old", domain))
			looks, fetches := w.DNS.CountName(record, "TXT"), w.Hosts.Fetches(domain)
			c.make(t, w, domain)
			seen := watch(t, d, domain, 3*recheck)
			seen.want(t, secure("old", domain))
			seen.wantPrompt(t)
			if n := w.DNS.CountName(record, "TXT") - looks; n == 0 {
				t.Error("there was no look at the record")
			}
			if n := w.Hosts.Fetches(domain) - fetches; (n > 0) != c.fetched {
				t.Errorf("there were %d fetches, want any: %v", n, c.fetched)
			}

			w.DNS.Fault(record, "TXT")
			w.Hosts.Turn(domain, world.Well)
			w.Publish(t, domain, "4", enforce("well", domain, day))
			// A fetch that hangs ends first.
			eventually(t, d, domain, secure("old", domain), secure("well", domain), 5*time.Second+2*recheck+slack)
		})
	}
}

// An id whose policy cannot be fetched does not hold up the next one.
func TestFailedIDThenNew(t *testing.T) {
	t.Parallel()
	const domain = "failed.test"
	w, d := start(t, world.Options{})
	w.Hosts.Turn(domain, world.Missing)
	w.Publish(t, domain, "1", enforce("one", domain, day))
	want(t, d, domain, world.NotFound)
	w.Hosts.Turn(domain, world.Well)
	w.Publish(t, domain, "2", enforce("two", domain, day))
	eventually(t, d, domain, world.NotFound, secure("two", domain), recheck+slack)

	w.Hosts.Turn(domain, world.Garbage)
	w.Publish(t, domain, "3", enforce("three", domain, day))
	watch(t, d, domain, 2*recheck).want(t, secure("two", domain))
	w.Hosts.Turn(domain, world.Well)
	w.Publish(t, domain, "4", enforce("four", domain, day))
	eventually(t, d, domain, secure("two", domain), secure("four", domain), recheck+slack)
}
