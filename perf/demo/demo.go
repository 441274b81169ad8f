package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// balanceWait is how long the last frames may take to arrive somewhere.
const balanceWait = 10 * time.Second

// Options are what the demo can be told.
type Options struct {
	Out    io.Writer
	Binary string // the fairlead to show
	Hold   bool   // leave everything running until the context ends

	// Connections to each service, one for each HTTP request; and as many UDP
	// flows. The fewer, the further chance takes shares from their expectation.
	Connections int
}

// errInterrupted says that the demo was ended before it had shown everything.
var errInterrupted = errors.New("interrupted")

// Run shows all methods at work, and cleans up. Its error says how many things
// were wrong, which the output has told in detail, or what kept the demo from
// running.
func Run(ctx context.Context, o Options) error {
	begin := time.Now()
	fmt.Fprintln(o.Out)
	w, err := build(ctx, o.Binary)
	if err != nil {
		return interruption(ctx, err)
	}
	err = w.run(ctx, o, begin)
	return errors.Join(err, w.close())
}

// interruption is errInterrupted when that is what err came of.
func interruption(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

func (w *world) run(ctx context.Context, o Options, begin time.Time) error {
	w.printPicture(o.Out)
	w.printCommands(o.Out)
	w.printConfiguration(o.Out)
	problems, err := w.show(ctx, o)
	if err != nil {
		return interruption(ctx, fmt.Errorf("%w\nthe load balancer's log:\n%s", err, w.node.Log()))
	}
	if !o.Hold {
		said, err := w.decapsulated()
		if err != nil {
			return err
		}
		wrong := w.printDecapsulated(o.Out, said)
		printProblems(o.Out, wrong)
		problems += len(wrong)
	}
	if problems == 0 {
		fmt.Fprintf(o.Out, "\n%d services, no errors, all shares as expected, every frame accounted for: %.0f seconds.\n",
			len(w.services), time.Since(begin).Seconds())
	} else {
		fmt.Fprintf(o.Out, "\nThe load balancer's log:\n%s", w.node.Log())
	}
	if o.Hold {
		w.printHold(o.Out, o.Binary)
		if err := w.hold(ctx, o.Out); err != nil {
			return err
		}
	}
	if problems > 0 {
		return fmt.Errorf("problems, marked WRONG above: %d", problems)
	}
	return nil
}

// show puts load on one service after the other, prints what comes of it, and
// then the ledger. It returns how many things were wrong.
func (w *world) show(ctx context.Context, o Options) (problems int, err error) {
	w.printHead(o.Out, o.Connections)
	for i := range w.services {
		r, err := w.measure(ctx, &w.services[i], o.Connections)
		if err != nil {
			return problems, err
		}
		if err := ctx.Err(); err != nil {
			return problems, err
		}
		r.print(o.Out)
		problems += len(r.problems)
	}
	ctx, cancel := context.WithTimeout(ctx, balanceWait)
	defer cancel()
	status, err := w.node.Balance(ctx)
	if err != nil {
		return problems, err
	}
	wrong := printLedger(o.Out, &status.Ledger)
	for _, warning := range status.Warnings {
		wrong = append(wrong, "the load balancer warns: "+warning)
	}
	printProblems(o.Out, wrong)
	return problems + len(wrong), nil
}
