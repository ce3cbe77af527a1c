package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in builds of a release:
// -ldflags "-X main.version=1.2.3".
var version string

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine says which program this is, and what built it.
func versionLine() string {
	return fmt.Sprintf("tlspolicyd %s (%s %s/%s)\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// programVersion returns the version of the running program; it is never empty.
func programVersion() string {
	info, _ := debug.ReadBuildInfo()
	return versionFrom(version, info)
}

// unversioned is the version of a build that nothing is known of, such as one
// from a tarball without its linker flags.
const unversioned = "unversioned"

// versionFrom returns the version that the linker was given, else that which Go
// derived from the module or the repository, else the commit.
func versionFrom(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if info == nil {
		return unversioned
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	if commit == "" {
		return unversioned
	}
	commit = "git-" + commit[:min(len(commit), 12)]
	if settings["vcs.modified"] == "true" {
		commit += "-modified"
	}
	return commit
}
