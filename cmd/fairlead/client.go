package main

import (
	"context"
	"io"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// askWithin is how long a command waits for an answer that comes at once.
const askWithin = 30 * time.Second

// nodeFlags say which node a command speaks to.
type nodeFlags struct {
	socket, server, cert, key, ca string
	member                        string // of the cluster, asked by way of that node; "": that node itself
}

// nodeFlag adds the flags that say which node a command speaks to.
func nodeFlag(c *cobra.Command) *nodeFlags {
	f := &nodeFlags{}
	socket := os.Getenv("FAIRLEAD_SOCKET")
	if socket == "" {
		socket = api.DefaultSocket
	}
	c.Flags().StringVar(&f.socket, "socket", api.DefaultSocket, "Unix socket of the node's admin API; FAIRLEAD_SOCKET in the environment is another default")
	f.socket = socket
	c.Flags().StringVar(&f.server, "server", "", "node on TCP, https://HOST:PORT, in place of the socket; needs --cert, --key and --ca")
	c.Flags().StringVar(&f.cert, "cert", "", "certificate to show to the node, a PEM file")
	c.Flags().StringVar(&f.key, "key", "", "key of --cert, a PEM file")
	c.Flags().StringVar(&f.ca, "ca", "", "authority that signs nodes' certificates, a PEM file")
	return f
}

// memberFlag adds the flags that say which node a command speaks to, and which
// member of its cluster it is to ask. It is for commands that change nothing.
func memberFlag(c *cobra.Command) *nodeFlags {
	f := nodeFlag(c)
	c.Flags().StringVar(&f.member, "node", "", "ask this member of the cluster, by way of the node")
	completeFlag(c, "node", memberNames)
	return f
}

// client is a client of the node that the flags say.
func (f *nodeFlags) client() (*api.Client, error) {
	c, err := f.direct()
	if err == nil && f.member != "" {
		c = c.Through(f.member)
	}
	return c, err
}

// direct is a client of the node that answers, whichever member is asked.
func (f *nodeFlags) direct() (*api.Client, error) {
	given := 0
	for _, path := range []string{f.cert, f.key, f.ca} {
		if path != "" {
			given++
		}
	}
	switch {
	case f.server == "" && given == 0:
		return api.NewClient(f.socket), nil
	case f.server == "":
		return nil, usageError("--cert, --key and --ca are for --server")
	case given < 3:
		return nil, usageError("--server needs --cert, --key and --ca")
	}
	c, err := api.NewTLSClient(f.server, f.cert, f.key, f.ca)
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	return c, nil
}

// askContext is for one answer that comes at once.
func askContext(within time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := interruptible()
	ctx, cancel := context.WithTimeout(ctx, within)
	return ctx, func() { cancel(); stop() }
}

// interruptible is for what goes on until it is interrupted.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// within calls f with a client of the node, and bounds how long it takes.
func (f *nodeFlags) within(most time.Duration, call func(context.Context, *api.Client) error) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(most)
	defer cancel()
	return call(ctx, client)
}

// ask sends a request whose answer comes at once.
func (f *nodeFlags) ask(method, path string, q url.Values, answer any) error {
	return f.within(askWithin, func(ctx context.Context, c *api.Client) error {
		return c.Call(ctx, method, path, q, nil, answer)
	})
}

// answer asks the node one thing, and writes what it says: text is for people.
func answer[T any](node *nodeFlags, most time.Duration, out *output.Options, call func(*api.Client, context.Context) (*T, error), text func(io.Writer, *T) error) error {
	_, err := answered(node, most, out, call, text)
	return err
}

// answered is answer for those whose exit status depends on what the node says.
func answered[T any](node *nodeFlags, most time.Duration, out *output.Options, call func(*api.Client, context.Context) (*T, error), text func(io.Writer, *T) error) (said *T, err error) {
	err = node.within(most, func(ctx context.Context, c *api.Client) error {
		if said, err = call(c, ctx); err != nil {
			return err
		}
		return out.Write(os.Stdout, said, func(w io.Writer) error { return text(w, said) })
	})
	return said, err
}
