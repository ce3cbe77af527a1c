//go:build e2e

package docs_test

import (
	"testing"

	"tlspolicyd/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }
