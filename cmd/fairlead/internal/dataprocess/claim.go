package dataprocess

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// At any time one process at most uses the rings: the one that has the claim. It
// is a lock on the memory of the counters that the kernel takes back when the
// process ends, however it does (POSIX record locks, fcntl(2)). Such a lock is
// also lost when the process closes any descriptor of that memory, which is why
// none is ever closed.

// claimWait is how long the process before may take to let go.
const claimWait = time.Second

// successionEvery is how often a process that stands by without a control
// process looks whether there is a new one, which has one of its own.
const successionEvery = 50 * time.Millisecond

func (p *process) lock(command int, kind int16) error {
	return unix.FcntlFlock(uintptr(p.kept[1]), command, &unix.Flock_t{Type: kind, Whence: io.SeekStart, Len: 1})
}

// claim makes this process the one that uses the rings.
func (p *process) claim() error {
	for deadline := time.Now().Add(claimWait); ; time.Sleep(time.Millisecond) {
		err := p.lock(unix.F_SETLK, unix.F_WRLCK)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return fmt.Errorf("claim the rings: %w", err)
		}
		if time.Now().After(deadline) {
			return errors.New("claim the rings: another process forwards")
		}
	}
}

// disclaim lets the next process have the rings.
func (p *process) disclaim() {
	if err := p.lock(unix.F_SETLK, unix.F_UNLCK); err != nil {
		slog.Error("the claim on the rings stays until this process ends", "error", err)
	}
}

// standAlone stands by without a control process: it takes over when the process
// that forwards is gone, too, and ends when another control process has taken
// that one over.
func (p *process) standAlone() (took bool, err error) {
	p.disconnect()
	if p.listener == nil {
		return false, nil // no control process would find this one
	}
	claimed := make(chan error, 1)
	go func() {
		for {
			err := p.lock(unix.F_SETLKW, unix.F_WRLCK) // the thread waits as long as it takes
			if !errors.Is(err, unix.EINTR) {
				claimed <- err
				return
			}
		}
	}()
	look := time.NewTicker(successionEvery)
	defer look.Stop()
	for p.counters.Successions() == p.succession {
		select {
		case <-look.C:
		case err := <-claimed:
			if err != nil {
				return false, fmt.Errorf("claim the rings: %w", err)
			}
			if p.counters.Successions() != p.succession {
				break // what forwarded has just been replaced by those who took it over
			}
			slog.Warn("the control process and the process that forwarded are gone; this process forwards")
			return true, p.takeOver()
		}
	}
	return false, nil
}
