package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/node"
	"fairlead/cmd/fairlead/internal/output"
)

// versionInfo is what there is to say of a binary.
type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"` // of the source; left out when it is not known
	Modified bool   `json:"modified,omitempty"` // the source was not as it was committed
}

func ownVersion() versionInfo {
	v := versionInfo{Version: node.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Revision = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

func newVersion() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Long: `Print the version of this program. That of the program which a node runs is in
"fairlead status".`,
		Args: cobra.NoArgs,
	}
	out := output.Flags(c)
	short := c.Flags().Bool("short", false, "print the bare version")
	c.RunE = func(*cobra.Command, []string) error {
		v := ownVersion()
		if *short && !out.Tabular() {
			return usageError("--short is a line of its own; leave it out with -o %s", out.Format)
		}
		return out.Write(os.Stdout, v, func(w io.Writer) error {
			var err error
			switch {
			case *short:
				_, err = fmt.Fprintln(w, v.Version)
			case out.Format == output.FormatWide:
				_, err = fmt.Fprintf(w, "fairlead %s, %s, %s, revision %s\n", v.Version, v.Go, v.Platform, v.Revision)
			default:
				_, err = fmt.Fprintln(w, "fairlead", v.Version)
			}
			return err
		})
	}
	return c
}
