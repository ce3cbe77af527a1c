package redisstore

import "testing"

// However many calls a replica refuses, it is the next sentinel that is asked then,
// and not the same one again.
func TestOneAnswerOfASentinelIsDoubtedOnce(t *testing.T) {
	d := &dialer{t: target{hosts: []string{"a:1", "b:1"}}, master: "m:1", sure: true}
	for range 4 {
		d.doubt()
		if next := d.asked(); next != "b:1" {
			t.Fatalf("%s is asked next", next)
		}
	}
}

func TestIsReplica(t *testing.T) {
	for _, tt := range []struct {
		what string
		err  error
		want bool
	}{
		{"a replica", answerError("READONLY You can't write against a read only replica."), true},
		{"in a script", answerError("READONLY You can't write against a read only replica. script: f2, on @user_script:32."), true},
		{"in a script, Redis 6", answerError("ERR Error running script (call to f_0): @user_script:32: " +
			"@user_script: 32: -READONLY You can't write against a read only replica."), true},
		{"no such right", answerError("NOPERM this user has no permissions"), false},
		{"out of reach", errRefused, false},
		{"success", nil, false},
	} {
		if got := isReplica(tt.err); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.what, got, tt.want)
		}
	}
}
