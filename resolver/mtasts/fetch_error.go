package mtasts

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
)

// The results of a fetch: the values of the label result of
// tlspolicyd_sts_fetches_total, and of policy.Failure.Kind.
const (
	resultOK      = "ok"
	resultDNS     = "dns"     // no address is known
	resultAddress = "address" // no address is allowed
	resultConnect = "connect" // no connection, or one that broke
	resultTLS     = "tls"     // no TLS, or not the certificate of the host
	resultStatus  = "status"  // no HTTP, or another status than 200
	resultType    = "type"    // another media type, or an encoded body
	resultSize    = "size"    // more bytes than allowed
	resultTimeout = "timeout" // the time was over
	resultSyntax  = "syntax"  // a file that is no policy
	resultBusy    = "busy"    // not tried: too many fetches; never a Failure
)

// fetchError says why a fetch failed.
type fetchError struct {
	// result is the class of the failure.
	result string
	// reason is one line for people: what was seen and what was wanted.
	reason string
	// err is what lies below; nil where there is nothing.
	err error
}

func (e *fetchError) Error() string { return e.result + ": " + e.reason }

func (e *fetchError) Unwrap() error { return e.err }

// failure makes a fetchError from an error: doing, then what went wrong.
func failure(result, doing string, err error) *fetchError {
	return &fetchError{result: result, reason: oneLine(doing + ": " + plain(err)), err: err}
}

// plain returns the text of an error, of one of the system only what the
// system said: the names and addresses around it are known already.
func plain(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// maxReason is the length of the longest reason, in bytes.
const maxReason = 300

// oneLine makes a text fit for a log: printable ASCII only, the rest escaped,
// and not longer than maxReason.
func oneLine(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := printable(s)
		b.WriteString(s[:n])
		if s = s[n:]; len(s) > 0 {
			quoted := strconv.QuoteToASCII(s[:1])
			b.WriteString(quoted[1 : len(quoted)-1])
			s = s[1:]
		}
		if b.Len() > maxReason {
			return b.String()[:maxReason-3] + "..."
		}
	}
	return b.String()
}

// printable returns the length of the printable ASCII that s begins with.
func printable(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return i
		}
	}
	return len(s)
}
