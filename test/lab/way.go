//go:build e2e

package lab

import (
	"fmt"
	"strings"
)

// Way is a way out of a relay with settings of its own, as if it were another
// relay: mail to name@domain goes that way.
type Way struct {
	// Name is of lower-case letters and digits. The log has it before
	// "/smtp[", and mail hosts are greeted with it.
	Name string
	// Level is smtp_tls_security_level, Map the name of the map that is asked
	// at [PolicyMap].
	Level, Map string
	// NextHop is where all of its mail goes; empty means the domain.
	NextHop string
	// WithoutDNSSEC leaves smtp_dns_support_level empty, as it is where nobody
	// has set it.
	WithoutDNSSEC bool
}

// Greeting is how Postfix calls itself to mail hosts on this way.
func (w Way) Greeting() string { return w.Name + ".relay.example" }

// Lines returns those lines of the log that are about this way and have any of
// the words in them.
func (w Way) Lines(log *Log, words ...string) []string {
	var lines []string
	for _, line := range log.About(words...) {
		if strings.Contains(line, " "+w.Name+"/") {
			lines = append(lines, line)
		}
	}
	return lines
}

// service returns the lines of master.cf.
func (w Way) service() string {
	dns := "dnssec"
	if w.WithoutDNSSEC {
		dns = ""
	}
	return fmt.Sprintf(`%s unix - - n - - smtp
    -o syslog_name=%[1]s
    -o smtp_helo_name=%s
    -o smtp_dns_support_level=%s
    -o smtp_tls_security_level=%s
    -o smtp_tls_policy_maps=socketmap:inet:%s:%s
`, w.Name, w.Greeting(), dns, w.Level, PolicyMap, w.Map)
}

// transport returns the line of the transport map.
func (w Way) transport() string {
	return fmt.Sprintf("/^%s@/ %[1]s:%s\n", w.Name, w.NextHop)
}
