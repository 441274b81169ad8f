package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newHistory() *cobra.Command {
	c := &cobra.Command{
		Use:   "history",
		Short: "List the versions of what is desired that a node keeps",
		Args:  cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var h api.ConfigHistory
		if err := node.ask(http.MethodGet, "/v1/config/history", nil, &h); err != nil {
			return err
		}
		return out.Write(os.Stdout, &h, func(w io.Writer) error {
			t := out.Table(">VERSION", "TIME", "SOURCE", "BY", "CHANGED", "COMMENT")
			for i := range h.Versions {
				v := &h.Versions[i]
				t.Row(strconv.FormatUint(v.Number, 10), v.Time.Local().Format(time.DateTime), v.Source, historyAuthor(v), v.Summary, historyComment(v, i == 0))
			}
			return t.Flush(w)
		})
	}
	return c
}

// historyAuthor is who has made a version, and on which other node.
func historyAuthor(v *api.ConfigVersion) string {
	if v.Node == "" {
		return v.User
	}
	return strings.TrimSpace(v.User + " on " + v.Node)
}

// historyComment is a version's comment, and whether it waits.
func historyComment(v *api.ConfigVersion, latest bool) string {
	if latest && v.Pending != nil {
		return strings.TrimSpace(fmt.Sprintf("%s (version %d is undone at %s unless it is confirmed)", v.Comment, v.Pending.Version, v.Pending.Until.Local().Format(time.DateTime)))
	}
	return v.Comment
}

func newDiff() *cobra.Command {
	c := &cobra.Command{
		Use:   "diff [FILE|VERSION]",
		Short: "Say what a document, an earlier version or the node's file would change",
		Long: `Say object by object and field by field what would change on a running node:

  diff FILE     if FILE were sent with "fairlead config apply"; "-" is standard
                input, and a file whose name is a number is written ./7
  diff VERSION  if "fairlead config rollback VERSION" were called
  diff          if "fairlead config reload" were called

The exit status is 0 when nothing would change, 1 when something would, and 2 when
there is nothing to compare because FILE, or the node's file, has errors.`,
		Args: cobra.MaximumNArgs(1),
	}
	node, out := nodeFlag(c), output.Flags(c)
	own := c.Flags().Bool("node-file", false, "FILE is a new version of the node's own file, not of what is sent")
	c.RunE = func(_ *cobra.Command, args []string) error {
		result, name, err := compare(node, *own, args)
		if err != nil {
			err = listRefusal(name, err, os.Stdout)
			if _, is := errors.AsType[*exitError](err); is || exitCode(err) != exitFailed {
				return err
			}
			return exitWith(exitUsage, err)
		}
		if err := out.Write(os.Stdout, result, func(w io.Writer) error { return writeDiff(w, result) }); err != nil {
			return err
		}
		if result.Changed {
			return exitWith(exitFailed, nil)
		}
		return nil
	}
	return c
}

// compare asks for the difference that the arguments mean.
func compare(node *nodeFlags, own bool, args []string) (result *api.ConfigResult, name string, err error) {
	client, err := node.client()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := askContext(changeWithin)
	defer cancel()
	result = &api.ConfigResult{}
	if len(args) == 0 {
		if own {
			return nil, "", usageError("--node-file needs a FILE")
		}
		return result, "", client.Call(ctx, http.MethodGet, "/v1/config/diff", nil, nil, result)
	}
	if n, err := strconv.ParseUint(args[0], 10, 64); err == nil && !own {
		return result, "", client.Call(ctx, http.MethodGet, "/v1/config/diff", url.Values{"version": {strconv.FormatUint(n, 10)}}, nil, result)
	}
	text, name, err := readDocument(args[0])
	if err != nil {
		return nil, name, err
	}
	q := url.Values{"name": {name}}
	if own {
		q.Set("source", "file")
	}
	return result, name, client.Call(ctx, http.MethodPost, "/v1/config/diff", q, api.Document{Type: documentType, Text: text}, result)
}

func newShowConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "show [VERSION]",
		Short: "Show what each source declares, in force or in an earlier version",
		Long: `Show what each source declares, in force or in an earlier version, and what has been
set of backends. With --source the text of that source alone is written, as it was
declared: a file to change and send again.`,
		Example: `  fairlead config show
  fairlead config show --source api > shop.toml
  fairlead config show 7 --source file`,
		Args: cobra.MaximumNArgs(1),
	}
	node, out := memberFlag(c), output.Flags(c)
	source := c.Flags().String("source", "", "write this source's text alone: file or api")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *source != "" && !out.Tabular() {
			return usageError("--source writes the text as it is; leave it out with -o %s", out.Format)
		}
		q := url.Values{}
		if len(args) == 1 {
			n, err := parseVersion(args[0])
			if err != nil {
				return err
			}
			q.Set("version", strconv.FormatUint(n, 10))
		}
		var cfg api.VersionedConfig
		if err := node.ask(http.MethodGet, "/v1/config", q, &cfg); err != nil {
			return err
		}
		if *source != "" {
			return writeSource(os.Stdout, &cfg, *source)
		}
		return out.Write(os.Stdout, &cfg, func(w io.Writer) error { return writeConfig(w, &cfg) })
	}
	return c
}

func writeSource(out io.Writer, cfg *api.VersionedConfig, source string) error {
	at := slices.IndexFunc(cfg.Sources, func(s api.ConfigSource) bool { return s.Source == source })
	if at < 0 {
		return fmt.Errorf("version %d has no source %q", cfg.Version.Number, source)
	}
	_, err := io.WriteString(out, cfg.Sources[at].Text)
	return err
}

func writeConfig(out io.Writer, cfg *api.VersionedConfig) error {
	v := &cfg.Version
	fmt.Fprintf(out, "# version %d of %s\n", v.Number, v.Time.Local().Format(time.DateTime))
	for _, s := range cfg.Sources {
		fmt.Fprintf(out, "\n# source %s, %s: %s, %s, %s\n", s.Source, s.Name, counted(s.Services, "service"), counted(s.Pools, "pool"), counted(s.Backends, "backend"))
		fmt.Fprintf(out, "%s\n", strings.TrimSuffix(s.Text, "\n"))
	}
	if len(cfg.Settings) > 0 {
		fmt.Fprintf(out, "\n# set of backends\n")
	}
	for _, s := range cfg.Settings {
		fmt.Fprintf(out, "# pool %s, %s: %s", s.Pool, s.Backend, s.State)
		if s.Deadline != nil {
			fmt.Fprintf(out, ", flows end at %s", s.Deadline.Local().Format(time.DateTime))
		}
		if s.Weight != nil {
			fmt.Fprintf(out, ", weight %d", *s.Weight)
		}
		fmt.Fprintln(out)
	}
	return nil
}
