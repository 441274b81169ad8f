package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"fairlead/dataplane/fib"
	"fairlead/dataplane/ipc"
)

// A service manager keeps descriptors for the next process of the service
// (systemd's FDSTORE). With everything that a data process works with in it, both
// processes may die: the rings fill up meanwhile, and no flow is lost.

// Keeper keeps descriptors beyond the life of this process. Those that are kept
// stay the caller's, too.
type Keeper interface {
	Keep(name string, fd int) error
	Forget(name string) error
}

// Names of what is kept. All begin with keptPrefix.
const (
	keptPrefix = "fairlead-"
	keptState  = keptPrefix + "state" // keptEstate
	keptForce  = keptPrefix + "image"
	keptRest   = keptPrefix + "image-resting"
)

func keptShared(i int) string         { return fmt.Sprintf("%sshared-%d", keptPrefix, i) }
func keptSocket(worker, i int) string { return fmt.Sprintf("%sworker-%d-%d", keptPrefix, worker, i) }

// keptEstate is an estate without its descriptors.
type keptEstate struct {
	Setup   ipc.Setup         `json:"setup"`
	Workers []ipc.WorkerSetup `json:"workers"`
}

// keepAll has everything kept. The lock is held.
func (n *Node) keepAll() {
	if n.keeper == nil {
		return
	}
	if err := n.tryKeep(); err != nil {
		n.log.Warn("the service manager does not keep the sockets: the death of both processes would end all connections", "error", err)
	}
}

func (n *Node) tryKeep() error {
	e, err := n.estate()
	if err != nil {
		return err
	}
	// A listener that is kept would answer for a data process that is no more.
	if e.setup.Listens {
		e.setup.Listens = false
		at := len(e.shared) - len(e.setup.Held) - 1
		e.shared = append(e.shared[:at:at], e.shared[at+1:]...)
	}
	var errs []error
	keep := func(name string, fd int) { errs = append(errs, n.keeper.Keep(name, fd)) }
	for i, fd := range e.shared {
		keep(keptShared(i), fd)
	}
	for w, fds := range e.sockets {
		for i, fd := range fds {
			keep(keptSocket(w, i), fd)
		}
	}
	text, err := json.Marshal(keptEstate{e.setup, e.workers})
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("fairlead-state", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	file := os.NewFile(uintptr(fd), "state")
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	keep(keptState, fd)
	errs = append(errs, n.keepImages())
	return errors.Join(errs...)
}

// keepImages has the image in force kept, and the one that rests.
func (n *Node) keepImages() error {
	if n.keeper == nil {
		return nil
	}
	fd, _ := n.image.descriptor()
	err := n.keeper.Keep(keptForce, fd)
	if i := n.image.images; i != nil && i.RestingFD() >= 0 {
		return errors.Join(err, n.keeper.Keep(keptRest, i.RestingFD()))
	}
	return errors.Join(err, n.keeper.Forget(keptRest))
}

// forgetAll has nothing kept any more, as after a stop in good order. The lock is
// held.
func (n *Node) forgetAll() {
	if n.keeper == nil {
		return
	}
	for _, name := range []string{keptState, keptForce, keptRest} {
		n.keeper.Forget(name)
	}
	for i := range 16 {
		n.keeper.Forget(keptShared(i))
	}
	for w, s := range n.workers {
		for i := range 1 + len(s.sockets) {
			n.keeper.Forget(keptSocket(w, i))
		}
	}
}

// inheritKept is what a control process before had kept; nil when there is
// nothing. The descriptors are its own from then on, or closed.
func inheritKept(kept map[string]int) (*inherited, error) {
	if _, there := kept[keptState]; !there {
		closeKept(kept)
		return nil, nil
	}
	in := &inherited{}
	err := in.fromKept(kept)
	if err == nil {
		err = in.check()
	}
	closeKept(kept)
	if err != nil {
		in.release()
		return nil, fmt.Errorf("what the service manager has kept: %w", err)
	}
	return in, nil
}

func closeKept(kept map[string]int) {
	for name, fd := range kept {
		if strings.HasPrefix(name, keptPrefix) {
			unix.Close(fd)
		}
	}
}

// fromKept takes the descriptors that it needs out of kept.
func (in *inherited) fromKept(kept map[string]int) error {
	take := func(name string) (int, error) {
		fd, there := kept[name]
		if !there {
			return -1, fmt.Errorf("%s is missing", name)
		}
		delete(kept, name)
		return fd, nil
	}
	fd, err := take(keptState)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "state")
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	text := make([]byte, info.Size())
	if _, err := file.ReadAt(text, 0); err != nil {
		return err
	}
	var e keptEstate
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	in.setup, in.workers = e.Setup, e.Workers
	in.setup.Resume = true
	for i := range in.setup.Descriptors() {
		if fd, err = take(keptShared(i)); err != nil {
			return err
		}
		in.shared = append(in.shared, fd)
	}
	for w := range in.workers {
		in.sockets = append(in.sockets, nil)
		for i := range 1 + len(in.workers[w].Queues) {
			if fd, err = take(keptSocket(w, i)); err != nil {
				return err
			}
			in.sockets[w] = append(in.sockets[w], fd)
		}
	}
	return in.chooseImage(kept)
}

// chooseImage takes the image that workers decided by last. Of the two that take
// turns one may have been half written when the control process died.
func (in *inherited) chooseImage(kept map[string]int) error {
	mem, err := mapMemfd(in.shared[1], ipc.CountersSize(in.setup.Workers, in.setup.Services, in.setup.Backends))
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	counters, err := ipc.MapCounters(mem, in.setup.Workers, in.setup.Services, in.setup.Backends)
	if err != nil {
		return err
	}
	used := uint64(0)
	for i := range counters.Workers {
		used = max(used, atomic.LoadUint64(&counters.Workers[i].Ledger.Generation))
	}
	for _, name := range []string{keptForce, keptRest} {
		fd, there := kept[name]
		if !there {
			continue
		}
		generation, size, err := imageIn(fd)
		if err == nil && (in.image == 0 || generation == used) {
			if in.image > 0 {
				unix.Close(in.image)
			}
			in.image, in.imageSize, in.generation = fd, size, generation
			delete(kept, name)
		}
	}
	if in.image == 0 {
		return errors.New("neither image is whole")
	}
	return nil
}

// imageIn verifies the image in a memfd.
func imageIn(fd int) (generation uint64, size int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, 0, err
	}
	s, unmap, err := fib.Map(fd)
	if err != nil {
		return 0, 0, err
	}
	generation = s.Generation()
	return generation, int(st.Size), unmap()
}
