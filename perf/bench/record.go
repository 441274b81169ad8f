package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// profileSeconds is how long a CPU profile is recorded.
const profileSeconds = 10

// recordProfile writes a CPU profile of Fairlead's data process under all the
// load that the generator can make, and says on out what it is of.
func (k *kit) recordProfile(ctx context.Context, method string, c Case, seconds int, file, command string, out io.Writer) (err error) {
	at := slices.IndexFunc(k.contestants, func(who contestant) bool { return who.name == "fairlead-"+method })
	if at < 0 {
		return fmt.Errorf("there is no method %q to profile", method)
	}
	w, err := k.world(c.Arms)
	if err != nil {
		return err
	}
	who := k.contestants[at]
	r := &run{kit: k, world: w, who: who, stream: k.streamFor(w, c, who)}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return err
	}
	if err := r.generator.WaitSent(ctx, r.stream.settledFrames()+1); err != nil {
		return err
	}
	if r.forwarder.settle != nil {
		if err := r.forwarder.settle(ctx); err != nil {
			return err
		}
	}
	if err := r.rest(ctx, k.warmUp); err != nil {
		return err
	}
	before, err := r.sample()
	if err != nil {
		return err
	}
	recorded, err := r.forwarder.node.Profile(ctx, seconds)
	if err != nil {
		return err
	}
	after, err := r.sample()
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, recorded, 0o644); err != nil {
		return err
	}
	machine, err := describeMachine(k.cpus)
	if err != nil {
		return err
	}
	m := between(before, after)
	_, err = fmt.Fprintf(out, "%s\n%s, %d cores, kernel %s; %s\n%s: %v, %.2f Mpps of %.2f offered; others took %.0f%% of the CPUs\n\n",
		command, machine.CPU, machine.Cores, machine.Kernel, machine.Placement, who.name, c, m.mpps(), m.offeredMpps(), 100*m.foreign)
	return err
}
