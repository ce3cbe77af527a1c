package main

import (
	"runtime/debug"
	"testing"
)

func TestVersionFrom(t *testing.T) {
	git := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.modified", Value: modified},
		}
	}
	devel := debug.Module{Version: "(devel)"}
	tests := []struct {
		name   string
		linked string
		info   *debug.BuildInfo
		want   string
	}{
		{"release", "1.2.3", &debug.BuildInfo{Main: devel, Settings: git("false")}, "1.2.3"},
		{"module", "", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3"},
		{"git, derived by Go", "", &debug.BuildInfo{Main: debug.Module{Version: "v0.0.0-20260102030405-0123456789ab+dirty"}, Settings: git("true")},
			"v0.0.0-20260102030405-0123456789ab+dirty"},
		{"git", "", &debug.BuildInfo{Main: devel, Settings: git("false")}, "git-0123456789ab"},
		{"git with changes", "", &debug.BuildInfo{Main: devel, Settings: git("true")}, "git-0123456789ab-modified"},
		{"short revision", "", &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "12"}}}, "git-12"},
		{"tarball or container without flags", "", &debug.BuildInfo{Main: devel}, "unversioned"},
		{"no module", "", &debug.BuildInfo{}, "unversioned"},
		{"no build information", "", nil, "unversioned"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := versionFrom(tt.linked, tt.info); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProgramVersionIsNeverEmpty(t *testing.T) {
	if programVersion() == "" {
		t.Error("the version is empty")
	}
}
