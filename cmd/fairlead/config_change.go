package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/configs"
	"fairlead/controlplane/api"
)

// changeWithin is how long a command waits for a change: a large node is
// compiled, and the ways to new backends are found out first.
const changeWithin = 2 * time.Minute

// documentType is how documents are sent.
const documentType = "application/toml"

// changeFlags are what all changes of the configuration have.
type changeFlags struct {
	node          *nodeFlags
	out           *output.Options
	comment       string
	force, dryRun bool
	requireAll    bool
}

func addChangeFlags(c *cobra.Command) *changeFlags {
	f := &changeFlags{node: nodeFlag(c), out: output.Flags(c)}
	c.Flags().StringVarP(&f.comment, "comment", "m", "", "why, for the history")
	c.Flags().BoolVar(&f.force, "force", false, "whatever it removes, also more than [state] removal_guard lets it")
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "say what would change, and whether it would be refused, and change nothing")
	c.Flags().BoolVar(&f.requireAll, "require-all", false, "in a cluster: make the change on all nodes that have not left, or on none")
	return f
}

func (f *changeFlags) query() url.Values {
	q := url.Values{}
	if f.comment != "" {
		q.Set("comment", f.comment)
	}
	if f.force {
		q.Set("force", "true")
	}
	if f.dryRun {
		q.Set("dryRun", "true")
	}
	if f.requireAll {
		q.Set("requireAll", "true")
	}
	return q
}

// send asks for a change and writes what it has done. name is that of the
// document that may be wrong.
func (f *changeFlags) send(path, name string, q url.Values, body any) error {
	client, err := f.node.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(changeWithin)
	defer cancel()
	var result api.ConfigResult
	if err := client.Call(ctx, http.MethodPost, path, q, body, &result); err != nil {
		return listRefusal(name, err, os.Stdout)
	}
	return f.out.Write(os.Stdout, &result, func(out io.Writer) error { return writeResult(out, &result, time.Now()) })
}

func newApply() *cobra.Command {
	c := &cobra.Command{
		Use:   "apply FILE",
		Short: "Send services, pools, VIPs and SNAT addresses to a node",
		Long: `Send services, pools, VIPs and SNAT addresses to a running node, in TOML as in its
configuration file. FILE is all that there is of this source: what was sent before
and is not in it is removed. What the node's own file declares is not touched. "-"
is standard input.

With --confirm the change takes effect at once, and is undone unless "fairlead
config confirm" comes in time; also when the node is started again meanwhile.
Until then no other is taken.

In a cluster the document is that of all nodes. Each of them finds out first
whether it could put the change in force; when one refuses, nothing changes
anywhere, and the answer has its name and its reason. Nodes that are not reached
take the change over when they are back. A change sent with --confirm can be
confirmed on any node.`,
		Example: `  fairlead config apply shop.toml
  fairlead config apply shop.toml --confirm 5m -m "new shop"
  fairlead config apply shop.toml --dry-run`,
		Args: cobra.ExactArgs(1),
	}
	f := addChangeFlags(c)
	confirm := c.Flags().Duration("confirm", 0, "undo the change unless it is confirmed within this time, 1s to 24h")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *confirm < 0 || c.Flags().Changed("confirm") && *confirm == 0 {
			return usageError("--confirm is to be 1s to 24h")
		}
		text, name, err := readDocument(args[0])
		if err != nil {
			return err
		}
		q := f.query()
		q.Set("name", name)
		if *confirm > 0 {
			q.Set("confirm", confirm.String())
		}
		return f.send("/v1/config/apply", name, q, api.Document{Type: documentType, Text: text})
	}
	return c
}

// readDocument reads a file that is sent, "-" from standard input.
func readDocument(path string) (text []byte, name string, err error) {
	in, name := os.Stdin, "stdin"
	if path != "-" {
		name = path
		if in, err = os.Open(path); err != nil {
			return nil, name, err
		}
		defer in.Close()
	}
	text, err = io.ReadAll(io.LimitReader(in, configs.MaxFileSize+1))
	if err == nil && len(text) > configs.MaxFileSize {
		err = fmt.Errorf("%s is larger than %d MiB", name, configs.MaxFileSize>>20)
	}
	return text, name, err
}

func newReload() *cobra.Command {
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have a node read its configuration file again",
		Long: `Have a running node read its configuration file again, as SIGHUP does, and say what
has changed or what is wrong with it.

In a cluster the services, pools and VIPs of the file become those of all nodes when
they are others than when the node last read its file: in two steps, as with
"fairlead config apply". The rest of the file is the node's own.`,
		Args: cobra.NoArgs,
	}
	f := addChangeFlags(c)
	publish := c.Flags().Bool("publish", false, "in a cluster: have the services, pools and VIPs of this node's file take the place of the cluster's, also when the file has not changed")
	c.RunE = func(*cobra.Command, []string) error {
		q := f.query()
		if *publish {
			q.Set("publish", "true")
		}
		return f.send("/v1/config/reload", "", q, nil)
	}
	return c
}

func newRollback() *cobra.Command {
	c := &cobra.Command{
		Use:   "rollback [VERSION]",
		Short: "Return to what was declared in an earlier version",
		Long: `Return to what all sources declared in an earlier version, by default the one
before: as a new version. Settings of backends (drained, disabled, weights) stay as
they are today; backends that come back have those that they had then.

When this takes something back that the configuration file says, the file stays as
it is. The node does not go by it, nor does a restart, until it is another one or
"fairlead config reload" asks for it.

In a cluster, what the version had of what all nodes share becomes theirs again, in
two steps. Each node has its own numbers of versions.`,
		Args: cobra.MaximumNArgs(1),
	}
	f := addChangeFlags(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		q := f.query()
		if len(args) == 1 {
			n, err := parseVersion(args[0])
			if err != nil {
				return err
			}
			q.Set("version", strconv.FormatUint(n, 10))
		}
		return f.send("/v1/config/rollback", "", q, nil)
	}
	return c
}

func parseVersion(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usageError("%q is no number of a version; `fairlead config history` lists them", text)
	}
	return n, nil
}

func newConfirm() *cobra.Command {
	c := &cobra.Command{
		Use:   "confirm",
		Short: "Let a change stay that was sent with --confirm",
		Args:  cobra.NoArgs,
	}
	node, out := nodeFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		var v api.ConfigVersion
		if err := node.ask(http.MethodPost, "/v1/config/confirm", nil, &v); err != nil {
			return err
		}
		return out.Write(os.Stdout, &v, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "version %d stays\n", v.Number)
			return err
		})
	}
	return c
}

// listRefusal lists what is wrong with a document as check does.
func listRefusal(name string, err error, out io.Writer) error {
	answer, is := errors.AsType[*api.Error](err)
	if !is || len(answer.Details) == 0 {
		if is && answer.Code == api.NeedsForce || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return fmt.Errorf("the node has not answered in time; `fairlead config history` tells whether the change is in force: %w", err)
	}
	if name == "" {
		name = documentName(answer.Message)
	}
	for _, d := range answer.Details {
		if d.Line > 0 {
			_, err = fmt.Fprintf(out, "error: %s:%d:%d: %s\n", name, d.Line, d.Column, d.Message)
		} else {
			_, err = fmt.Fprintf(out, "error: %s\n", d.Message)
		}
		if err != nil {
			return err
		}
	}
	return errors.New(answer.Message)
}

// documentName is the document that a message "NAME: 3 errors" is about.
func documentName(message string) string {
	for i := len(message) - 1; i > 0; i-- {
		if message[i] == ':' {
			return message[:i]
		}
	}
	return message
}
