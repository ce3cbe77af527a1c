package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tlspolicyd/internal/config"
)

// configFile is the configuration that a command line names, or the one that is
// read by default.
type configFile struct {
	byDefault string
	flag      *pflag.Flag
}

const configFlag = "config"

func (f *configFile) addFlag(root *cobra.Command) {
	root.PersistentFlags().String(configFlag, f.byDefault, "configuration `FILE`")
	f.flag = root.PersistentFlags().Lookup(configFlag)
	if err := root.MarkPersistentFlagFilename(configFlag, "yaml", "yml"); err != nil {
		panic(err) // there is no such flag
	}
}

// path returns the name of the file.
func (f *configFile) path() string { return f.flag.Value.String() }

// named reports whether the command line names the file.
func (f *configFile) named() bool { return f.flag.Changed }

// load reads the file. Where none is named and there is none, the defaults are
// in effect.
func (f *configFile) load() (*config.Config, error) {
	c, err := config.Load(f.path())
	if !f.named() && errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	return c, err
}

func newConfigCommand(file *configFile) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the configuration",
		RunE:  group,
		Args:  cobra.ArbitraryArgs,
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration",
		Long: "Say what is wrong with the configuration, each error with line and column. The files\n" +
			"that it names are not opened.\n\n" +
			"Exits with 0 if nothing is, 1 if there are errors, 2 if the file cannot be read.",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return checkConfig(cmd, file) },
	}, &cobra.Command{
		Use:               "show",
		Short:             "Show the configuration in effect, defaults included",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return showConfig(cmd, file) },
	})
	return cmd
}

// checkConfig prints the errors: they are the result that was asked for.
func checkConfig(cmd *cobra.Command, file *configFile) error {
	_, err := config.Load(file.path())
	faults, wrong := errors.AsType[config.Faults](err)
	result := fmt.Sprintf("%s: no errors", file.path())
	switch {
	case wrong:
		result = faults.Error()
	case !file.named() && errors.Is(err, fs.ErrNotExist):
		result = fmt.Sprintf("%s does not exist: the defaults are in effect", file.path())
	case err != nil:
		return err
	}
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), result); err != nil {
		return err
	}
	if wrong {
		return answer(exitNo)
	}
	return nil
}

func showConfig(cmd *cobra.Command, file *configFile) error {
	c, err := file.load()
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), c.Show())
	return err
}
