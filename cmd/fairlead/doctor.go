package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/doctor"
	"fairlead/cmd/fairlead/internal/output"
	"fairlead/configs"
	"fairlead/controlplane/api"
)

func newDoctor() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Examine this machine, and the node that runs on it: what is wrong, and what to do",
		Long: `Examine this machine and, when one runs, the node on it: the kernel, the
interfaces and their drivers, queues, offloads and MTUs, XDP programs, CPUs and
interrupts, memory, rights and limits, firewall rules about VIPs, and what the
node says of itself. With [kubernetes] the API server is asked, with the node's
credentials: whether it answers, grants what the node needs, and has the kinds. Each
finding says what to do and, where there is one, the command that does it. Nothing
is changed.

The table shows what is to be done; with -o wide it also shows what is well. The
exit status is that of the worst finding: 0 when all is well, 1 with warnings, 2
with errors.`,
		Args: cobra.NoArgs,
	}
	path := configFlag(c)
	socket := c.Flags().String("socket", api.DefaultSocket, "Unix socket of the admin API of the node on this machine")
	options := output.Flags(c)
	c.RunE = func(*cobra.Command, []string) error { return runDoctor(*path, *socket, options, os.Stdout) }
	return c
}

// runDoctor examines and reports. What cannot be read of the configuration or of
// the node is a finding, too.
func runDoctor(path, socket string, options *output.Options, out io.Writer) error {
	var s doctor.Subjects
	var unread []doctor.Finding
	cfg, err := configs.Load(path)
	switch {
	case err == nil:
		s.Config = cfg
	case errors.Is(err, fs.ErrNotExist):
		unread = append(unread, doctor.Finding{Status: doctor.Warning, Check: "configuration", Subject: path, Found: "there is no such file; the machine alone is examined",
			Advice: "name the file with --config", Command: "fairlead config reference"})
	default:
		unread = append(unread, doctor.Finding{Status: doctor.Error, Check: "configuration", Subject: path, Found: "it has errors: " + err.Error(),
			Advice: "correct them", Command: "fairlead check --config " + path})
	}
	if s.Node, s.PID, err = askNode(socket); err != nil {
		unread = append(unread, doctor.Finding{Status: doctor.Warning, Check: "node", Subject: socket, Found: err.Error(), Advice: "examine as a user who may use the socket"})
	}
	r := doctor.Examine(s, unread...)
	if err := writeFindings(out, options, &r); err != nil {
		return err
	}
	switch r.Status {
	case doctor.Warning:
		return exitWith(exitFailed, nil)
	case doctor.Error:
		return exitWith(exitFailed+1, nil)
	}
	return nil
}

func writeFindings(out io.Writer, options *output.Options, r *doctor.Report) error {
	return options.Write(out, r, func(out io.Writer) error { return writeReport(out, r, options.Format == output.FormatWide) })
}

// askNode asks the node on this machine how it is, and who it is. Without one
// there is no error.
func askNode(socket string) (*api.Summary, int, error) {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer c.Close()
	pid := peer(c.(*net.UnixConn))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := api.NewClient(socket).Summary(ctx)
	if err != nil {
		return nil, pid, err
	}
	return s, pid, nil
}

// peer is the process at the other end of a connection, 0 when it is not known.
func peer(c *net.UnixConn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// writeReport writes what was found, the worst first, without what is well
// unless all is asked for.
func writeReport(out io.Writer, r *doctor.Report, all bool) error {
	var count [3]int
	for _, f := range r.Findings {
		count[f.Status.Severity()]++
		if f.Status == doctor.OK && !all {
			continue
		}
		name := f.Check
		if f.Subject != "" {
			name += " " + f.Subject
		}
		if _, err := fmt.Fprintf(out, "%-8s%s: %s\n", f.Status, name, f.Found); err != nil {
			return err
		}
		if f.Advice != "" {
			fmt.Fprintf(out, "        what to do: %s\n", f.Advice)
		}
		if f.Command != "" {
			fmt.Fprintf(out, "        $ %s\n", f.Command)
		}
	}
	_, err := fmt.Fprintf(out, "%s, %s, %d well\n", counted(count[2], "error"), counted(count[1], "warning"), count[0])
	return err
}
