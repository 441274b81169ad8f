package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"fairlead/cmd/fairlead/internal/output"
	"fairlead/controlplane/api"
)

// drainMember takes a member of the cluster out of service, or puts it back.
func drainMember(node *nodeFlags, out *output.Options, member string, drained, wait bool, within time.Duration) error {
	client, err := node.client()
	if err != nil {
		return err
	}
	ctx, cancel := askContext(askWithin)
	defer cancel()
	d, err := client.DrainMember(ctx, member, drained)
	if err != nil {
		return err
	}
	if wait {
		if err := awaitMember(client, within, d); err != nil {
			return err
		}
	}
	return out.Write(os.Stdout, d, func(w io.Writer) error { return writeMemberDrain(w, d) })
}

func showMemberDrain(node *nodeFlags, out *output.Options, member string) error {
	ask := func(c *api.Client, ctx context.Context) (*api.MemberDrain, error) { return c.MemberDrain(ctx, member) }
	return answer(node, askWithin, out, ask, writeMemberDrain)
}

// awaitMember asks until a member is drained, and leaves what it says last in d.
func awaitMember(client *api.Client, within time.Duration, d *api.MemberDrain) error {
	ctx, cancel := askContext(within)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for d.State == nil || d.State.Phase != "drained" {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			state := d.Error
			if d.State != nil {
				state = d.State.Phase
			}
			return fmt.Errorf("%s is not drained after %s: %s: %w", d.Node, within, state, context.Cause(ctx))
		}
		next, err := client.MemberDrain(ctx, d.Node)
		if err != nil {
			return err
		}
		if *d = *next; d.Drained == nil {
			return fmt.Errorf("somebody has put %s back in service", d.Node)
		}
	}
	return nil
}

func writeMemberDrain(w io.Writer, d *api.MemberDrain) error {
	wanted := "is to be in service"
	if d.Drained != nil {
		wanted = "is drained by " + d.Drained.By
	}
	fmt.Fprintf(w, "%s %s\n", d.Node, wanted)
	if d.State == nil {
		_, err := fmt.Fprintf(w, "it does not answer, and follows when it can: %s\n", d.Error)
		return err
	}
	return writeDrain(w, d.State)
}
