package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

func newKubernetes() *cobra.Command {
	c := &cobra.Command{
		Use:     "k8s",
		Aliases: []string{"kubernetes"},
		Short:   "Show how a node serves a Kubernetes cluster, and prepare a cluster for it",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newKubernetesStatus(), newKubernetesServices(), newKubernetesManifests(), newKubernetesCRDs(), newKubernetesKubeconfig(), newKubernetesMigrate())
	return c
}

func newKubernetesStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show whether a running node has a connection to Kubernetes, and what it serves of it",
		Long: `Show whether a running node has a connection to the API server of Kubernetes, what
it watches there, how much of it is in force, and what is not, with the reason.

A node is "connecting" until it has seen everything once since its start, then
"connected", and "away" while the API server cannot be reached: what was seen last
stays in force. The writer is the node that allocates addresses and writes the status
of Services and Gateways.

The exit status is 1 when the node is not connected.`,
		Args: cobra.NoArgs,
	}
	node, out := memberFlag(c), output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		s, err := answered(node, askWithin, out, (*api.Client).KubernetesStatus, func(w io.Writer, s *api.KubernetesStatus) error {
			return writeKubernetesStatus(w, out, s, time.Now())
		})
		if err == nil && s.State != api.KubernetesConnected {
			err = exitWith(exitFailed, nil)
		}
		return err
	}
	return c
}

func writeKubernetesStatus(out io.Writer, o *output.Options, s *api.KubernetesStatus, now time.Time) error {
	if s.State == api.KubernetesOff {
		_, err := fmt.Fprintln(out, "off: the configuration has no [kubernetes]")
		return err
	}
	fmt.Fprintf(out, "state:   %s", s.State)
	if s.Since != nil {
		fmt.Fprintf(out, ", since %s", output.Age(*s.Since, now))
	}
	if s.Error != "" {
		fmt.Fprintf(out, ": %s", s.Error)
	}
	fmt.Fprintln(out)
	if s.Server != "" {
		fmt.Fprintf(out, "server:  %s %s\n", s.Server, s.Version)
	}
	synced := "not all has been seen yet"
	if s.Synced != nil {
		synced = "all was seen first " + output.Age(*s.Synced, now) + " ago"
	}
	fmt.Fprintf(out, "synced:  %s\n", synced)
	writer := s.Writer
	switch {
	case writer == "":
		writer = "none is known"
	case s.Writing:
		writer += ", this node"
	}
	fmt.Fprintf(out, "writer:  %s\nobjects: %d in force, %d refused, %d being put in force", writer, s.Groups, len(s.Refused), s.Pending)
	if s.Lag != nil {
		fmt.Fprintf(out, "; the last change took %s", output.Span(time.Duration(*s.Lag*float64(time.Second))))
	}
	fmt.Fprint(out, "\n\n")

	watched := o.Table("WATCHED", ">OBJECTS", "SEEN", "ERROR")
	for i := range s.Watched {
		w := &s.Watched[i]
		watched.Row(w.Name, strconv.Itoa(w.Objects), yesNo(w.Synced), w.Error)
	}
	if err := watched.Flush(out); err != nil {
		return err
	}
	if len(s.Nodes) > 0 {
		fmt.Fprintln(out)
		nodes := o.Table("NODE", "STATE", ">IN FORCE", ">REFUSED", "WRITER", "ERROR")
		for i := range s.Nodes {
			n := &s.Nodes[i]
			nodes.Row(n.Name, string(n.State), strconv.Itoa(n.Groups), strconv.Itoa(n.Refused), yesNo(n.Writer), n.Error)
		}
		if err := nodes.Flush(out); err != nil {
			return err
		}
	}
	if len(s.Refused) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	refused := o.Table("REFUSED", "SINCE", "IN FORCE", "ERROR")
	for i := range s.Refused {
		r := &s.Refused[i]
		inForce := "nothing"
		if r.Earlier {
			inForce = "an earlier version"
		}
		refused.Row(r.Kind+" "+r.Namespace+"/"+r.Name, output.Age(r.Since, now), inForce, r.Error)
	}
	return refused.Flush(out)
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func newKubernetesServices() *cobra.Command {
	c := &cobra.Command{
		Use:   "services [NAMESPACE/NAME]",
		Short: "List the Services and Gateways that a running node serves",
		Long: `List the Services and Gateways of Kubernetes that a running node serves: their
addresses, how packets get to their pods ("pods", "nodeports" or "nodes"), how many
backends get new flows, and how many nodes have them in force. Problems are those that
Events and conditions tell of, too.`,
		Example: `  fairlead k8s services --problems
  fairlead k8s services default/web`,
		Args: cobra.MaximumNArgs(1),
	}
	node, out, problems := memberFlag(c), output.Flags(c), problemsFlag(c)
	filter := map[string]*string{
		"namespace": c.Flags().String("namespace", "", "only objects of this namespace"),
		"kind":      c.Flags().String("kind", "", "only objects of this kind: service or gateway"),
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		query := filled(filter)
		if *problems {
			query.Set("problems", "true")
		}
		if len(args) == 1 {
			namespace, name, both := strings.Cut(args[0], "/")
			if !both || namespace == "" || name == "" {
				return usageError("%q is not NAMESPACE/NAME", args[0])
			}
			query.Set("namespace", namespace)
			query.Set("name", name)
		}
		return node.within(listWithin, func(ctx context.Context, client *api.Client) error {
			return output.List(out, os.Stdout, "objects", kubernetesTable(out), kubernetesRow, func(add func(*api.KubernetesObject) error) error {
				return client.KubernetesObjects(ctx, query, add)
			})
		})
	}
	return c
}

func kubernetesTable(o *output.Options) *output.Table {
	return o.Table("KIND", "NAME", "ADDRESSES", "PORTS", "METHOD", ">READY", ">DRAINING", "PROGRAMMED", "+ON", "PROBLEMS")
}

func kubernetesRow(t *output.Table, s *api.KubernetesObject) {
	var problems []string
	for _, p := range s.Problems {
		problems = append(problems, p.Reason+": "+p.Message)
	}
	t.Row(s.Kind, s.Namespace+"/"+s.Name, strings.Join(s.Addresses, ","), strings.Join(s.Ports, ","), s.Method, strconv.Itoa(s.Ready), strconv.Itoa(s.Draining),
		fmt.Sprintf("%d/%d", len(s.Programmed), s.Nodes), strings.Join(s.Programmed, ","), strings.Join(problems, "; "))
}
