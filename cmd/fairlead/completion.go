package main

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/controlplane/api"
)

// What a shell gets when it completes a name: it does not wait for a slow node,
// nor does it show a list nobody can read.
const (
	completeWithin = 2 * time.Second
	mostCompleted  = 500
)

// completer asks a node for names.
type completer func(ctx context.Context, client *api.Client) ([]string, error)

// completeFromNode completes the argument at a position with names that the
// node knows. When it does not answer there are none.
func completeFromNode(position int, names completer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) != position {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completed(c, names, begun)
	}
}

// completeFlag completes the value of a flag with names that the node knows.
func completeFlag(c *cobra.Command, flag string, names completer) {
	// The flag is the command's own: the error is impossible.
	_ = c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return completed(c, names, begun)
	})
}

func completed(c *cobra.Command, names completer, begun string) ([]string, cobra.ShellCompDirective) {
	client, err := nodeOf(c).client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()
	all, err := names(ctx, client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var fit []string
	for _, name := range all {
		if strings.HasPrefix(name, begun) && len(fit) < mostCompleted {
			fit = append(fit, name)
		}
	}
	return fit, cobra.ShellCompDirectiveNoFileComp
}

// nodeOf are the flags of a command that say which node it speaks to.
func nodeOf(c *cobra.Command) *nodeFlags {
	f := &nodeFlags{}
	for name, value := range map[string]*string{"socket": &f.socket, "server": &f.server, "cert": &f.cert, "key": &f.key, "ca": &f.ca} {
		*value, _ = c.Flags().GetString(name)
	}
	return f
}

// memberNames are the names of the members of the cluster, in order.
func memberNames(ctx context.Context, client *api.Client) (list []string, err error) {
	m, err := client.ClusterMembers(ctx)
	if err != nil {
		return nil, err
	}
	for i := range m.Members {
		list = append(list, m.Members[i].Name)
	}
	return list, nil
}

// serviceNames are the names of services, in order.
func serviceNames(ctx context.Context, client *api.Client) (list []string, err error) {
	err = client.Services(ctx, nil, func(s *api.Service) error { list = append(list, s.Name); return nil })
	return list, err
}

// poolNames are the names of the pools that services use, in order.
func poolNames(ctx context.Context, client *api.Client) (list []string, err error) {
	err = client.Services(ctx, nil, func(s *api.Service) error { list = append(list, s.Pool); return nil })
	slices.Sort(list)
	return slices.Compact(list), err
}

// endpointsOf are the endpoints of the backends of a pool, as commands that
// change one take them.
func endpointsOf(pool string) completer {
	return func(ctx context.Context, client *api.Client) (list []string, err error) {
		err = client.Backends(ctx, url.Values{"pool": {pool}}, func(b *api.PoolBackend) error {
			list = append(list, endpoint(&b.Backend))
			return nil
		})
		return list, err
	}
}

// endpoint is a backend's address, with its port where it has one.
func endpoint(b *api.Backend) string {
	addr, err := netip.ParseAddr(b.Address)
	if err != nil || b.Port == 0 {
		return b.Address
	}
	return netip.AddrPortFrom(addr, b.Port).String()
}
