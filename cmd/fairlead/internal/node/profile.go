package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/ipc"
)

// errNoDataProcess says that there is nothing to profile.
var errNoDataProcess = errors.New("there is no data process at the moment")

// Profile has the data process record where it spends its CPU time, and returns
// the recording in the format of pprof. It implements api.Provider.
func (n *Node) Profile(ctx context.Context, length time.Duration) ([]byte, error) {
	data := n.forwarding()
	if data == nil {
		return nil, errNoDataProcess
	}
	if !n.profiling.TryLock() {
		return nil, errors.New("a profile is being recorded already")
	}
	defer n.profiling.Unlock()
	fd, err := unix.MemfdCreate("fairlead-profile", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("profile: memfd_create: %w", err)
	}
	file := os.NewFile(uintptr(fd), "profile")
	defer file.Close()
	if err := data.profile(ctx, length, fd); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return io.ReadAll(file)
}

// profile asks for a recording and waits until it is complete.
func (d *dataProcess) profile(ctx context.Context, length time.Duration, fd int) error {
	select {
	case <-d.profiled: // the late answer to somebody who has stopped waiting
	default:
	}
	if err := d.conn.Send(ipc.KindProfile, ipc.Profile{Milliseconds: length.Milliseconds()}, fd); err != nil {
		return err
	}
	select {
	case answer := <-d.profiled:
		if answer.Error != "" {
			return errors.New(answer.Error)
		}
		return nil
	case <-d.exited:
		return errGone
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answerProfile hands an answer to whoever waits for one, now or next.
func (d *dataProcess) answerProfile(answer ipc.Profiled) {
	select {
	case d.profiled <- answer:
	default: // the one before was never fetched: nobody waits
	}
}
