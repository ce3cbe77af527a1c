package config_test

import (
	"errors"
	"reflect"
	"testing"

	"tlspolicyd/internal/config"
)

// Whatever the file says, it is either a configuration that Show can write and
// Parse can read again, or there are faults with positions.
func FuzzParse(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(fullText))
	f.Add([]byte(config.Default().Show()))
	f.Add([]byte("lisen: [a]\ndns: {timeout: 2, servers: [::1]}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Parse("f", text)
		if err != nil {
			wantFaults(t, err)
			return
		}
		again, err := config.Parse("shown", []byte(c.Show()))
		if err != nil {
			t.Fatalf("what Show wrote is refused: %v\n%s", err, c.Show())
		}
		if !reflect.DeepEqual(again, c) {
			t.Fatalf("got\n%s\nwant\n%s", again.Show(), c.Show())
		}
	})
}

func wantFaults(t *testing.T, err error) {
	t.Helper()
	faults, ok := errors.AsType[config.Faults](err)
	if !ok || len(faults) == 0 {
		t.Fatalf("got %T %v, want faults", err, err)
	}
	last := &config.Fault{}
	for _, f := range faults {
		if f.Line < 1 || f.Column < 1 || f.Reason == "" || f.File != "f" {
			t.Errorf("incomplete: %+v", f)
		}
		if f.Line < last.Line || f.Line == last.Line && f.Column < last.Column {
			t.Errorf("%v stands after %v", f, last)
		}
		last = f
	}
}
