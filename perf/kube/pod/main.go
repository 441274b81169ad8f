// Command pod is what runs in the pods of the lab.
//
//	pod run -hostname NAME [-resolver FILE] -- COMMAND [ARG...]
//	pod contain -spec FILE -- COMMAND [ARG...]
//	pod enter -spec FILE -pid PID -- COMMAND [ARG...]
//	pod serve [-http :8080] [-udp :8053] [-stream :8007] [-linger 0s]
//	pod pause
//	pod look [PATH...]
//
// run becomes COMMAND with a host name of its own, in the file system of this
// machine, but for /etc/resolv.conf. contain runs COMMAND in a container, and enter runs it in the container
// of a process (perf/kube/runtime). serve is a server for the clients of
// perf/lab/traffic: it answers with its pod's name. pause waits for SIGTERM. look
// prints, as JSON, who it is, what it may do, and what it finds at paths.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"fairlead/perf/kube/runtime"
)

func main() {
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func program(args []string) error {
	if len(args) == 0 {
		return errors.New("run, contain, enter, serve, pause or look?")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	switch args[0] {
	case "run":
		stop()
		return run(args[1:])
	case "contain", "enter":
		stop()
		return contain(args[0], args[1:])
	case "init": // of contain: -- COMMAND [ARG...]
		stop()
		return runtime.Init(args[2:])
	case "become": // of enter, likewise
		stop()
		return runtime.Become(args[2:])
	case "look":
		stop()
		return look(args[1:])
	case "serve":
		defer stop()
		return serve(ctx, args[1:])
	case "pause":
		defer stop()
		<-ctx.Done()
		return nil
	}
	stop()
	return fmt.Errorf("%q is neither run, contain, enter, serve, pause nor look", args[0])
}

// run does not return when it succeeds: the process is the command then.
func run(args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	hostname := flags.String("hostname", "", "the pod's host name")
	resolver := flags.String("resolver", "", "the file that is to be /etc/resolv.conf")
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
	// Name and file belong to namespaces of this thread, which is the one that
	// becomes the command.
	goruntime.LockOSThread()
	if *hostname != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("a host name of its own: %w", err)
		}
		if err := unix.Sethostname([]byte(*hostname)); err != nil {
			return fmt.Errorf("host name %s: %w", *hostname, err)
		}
	}
	if *resolver != "" {
		if err := resolve(*resolver); err != nil {
			return fmt.Errorf("names of the cluster: %w", err)
		}
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, command, os.Environ()))
}

// resolve has this thread alone find a file in place of /etc/resolv.conf.
func resolve(file string) error {
	const well = "/etc/resolv.conf"
	at, err := filepath.EvalSymlinks(well)
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount(file, at, "", unix.MS_BIND, "")
}

// contain runs a command in a container, its own or that of a process, and ends as
// the command does.
func contain(how string, args []string) error {
	flags := flag.NewFlagSet(how, flag.ContinueOnError)
	spec := flags.String("spec", "", "the file with the container's specification")
	pid := flags.Int("pid", 0, "a process of the container")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("run what?")
	}
	var status int
	var err error
	if how == "enter" {
		status, err = runtime.Exec(*pid, *spec, flags.Args())
	} else {
		status, err = runtime.Run(*spec, flags.Args())
	}
	if err != nil {
		return err
	}
	os.Exit(status)
	return nil
}
