// Command pod is what runs in the pods of the lab.
//
//	pod run -hostname NAME -- COMMAND [ARG...]
//	pod serve [-http :8080] [-udp :8053] [-stream :8007] [-linger 0s]
//	pod pause
//
// run becomes COMMAND with a host name of its own; it is what a container runtime
// would be. serve is a server for the clients of perf/lab/traffic: it answers with
// its pod's name. pause waits for SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func program(args []string) error {
	if len(args) == 0 {
		return errors.New("run, serve or pause?")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	switch args[0] {
	case "run":
		stop()
		return run(args[1:])
	case "serve":
		defer stop()
		return serve(ctx, args[1:])
	case "pause":
		defer stop()
		<-ctx.Done()
		return nil
	}
	stop()
	return fmt.Errorf("%q is neither run, serve nor pause", args[0])
}

// run does not return when it succeeds: the process is the command then.
func run(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	hostname := flags.String("hostname", "", "the pod's host name")
	if err := flags.Parse(args); err != nil {
		return err
	}
	command := flags.Args()
	if len(command) == 0 {
		return errors.New("run what?")
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	if *hostname != "" {
		// The name belongs to a namespace of this thread, which is the one that
		// becomes the command.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("a host name of its own: %w", err)
		}
		if err := unix.Sethostname([]byte(*hostname)); err != nil {
			return fmt.Errorf("host name %s: %w", *hostname, err)
		}
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, command, os.Environ()))
}
