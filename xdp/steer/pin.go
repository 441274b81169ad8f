package steer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The usual place of the BPF file system.
const bpffsRoot = "/sys/fs/bpf"

// Names under the pin path. Those of an interface lie in a directory of their
// own, named by the interface's number: names of interfaces may change, and may
// hold dots, which the BPF file system refuses.
const (
	ifacePrefix = "if"
	linkPin     = "link"
)

// pins is a directory on a BPF file system; the zero pins keeps nothing.
type pins struct {
	dir     string
	mounted string // where a BPF file system was mounted by openPins, or ""
}

// openPins makes dir, on a BPF file system.
func openPins(dir string) (pins, error) {
	if dir == "" {
		return pins{}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return pins{}, fmt.Errorf("pin path: %w", err)
	}
	p := pins{dir: dir}
	on, err := onBPFFS(dir)
	if err != nil {
		return pins{}, err
	}
	if !on {
		if p.mounted, err = mountBPFFS(dir); err != nil {
			return pins{}, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pins{}, fmt.Errorf("pin path: %w", err)
	}
	return p, nil
}

// onBPFFS reports whether dir, or the nearest ancestor that exists, lies on a
// BPF file system.
func onBPFFS(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return uint32(st.Type) == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("pin path %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

// mountBPFFS mounts a BPF file system at its usual place if dir lies below
// that, otherwise at dir itself, and says where.
func mountBPFFS(dir string) (string, error) {
	at := dir
	if dir == bpffsRoot || strings.HasPrefix(dir, bpffsRoot+"/") {
		at = bpffsRoot
	}
	err := os.MkdirAll(at, 0o700)
	if err == nil {
		err = unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
	}
	if err != nil {
		return "", fmt.Errorf("pin path %s is on no BPF file system and mounting one failed (do it once with: mount -t bpf bpf %s): %w", dir, at, err)
	}
	return at, nil
}

// path is the pin of the given name, or "" when nothing is kept.
func (p pins) path(name string) string {
	if p.dir == "" {
		return ""
	}
	return filepath.Join(p.dir, name)
}

// ifaceName is the name of one interface's pin.
func ifaceName(ifindex int, name string) string {
	return filepath.Join(ifacePrefix+strconv.Itoa(ifindex), name)
}

// openMap adopts the pinned map of the given name, or makes and pins a new one.
// A pinned map of another layout, from another version, is replaced: programs
// that use it keep it until they are replaced themselves.
func (p pins) openMap(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	path := p.path(name)
	if path == "" {
		m, err := newMap(spec)
		if err != nil {
			return nil, fmt.Errorf("make map %s: %w", name, err)
		}
		return m, nil
	}
	m, err := ebpf.LoadPinnedMap(path, nil)
	switch {
	case err == nil:
		if spec.Compatible(m) == nil {
			return m, nil
		}
		m.Close()
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace pinned map %s: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	if m, err = newMap(spec); err != nil {
		return nil, fmt.Errorf("make map %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.Close()
		return nil, fmt.Errorf("pin map: %w", err)
	}
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, fmt.Errorf("pin map at %s: %w", path, err)
	}
	return m, nil
}

// ifaces lists the interfaces that have pins.
func (p pins) ifaces() ([]int, error) {
	if p.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("pin path: %w", err)
	}
	var found []int
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), ifacePrefix)
		if !ok {
			continue
		}
		if ifindex, err := strconv.Atoi(number); err == nil {
			found = append(found, ifindex)
		}
	}
	return found, nil
}

// removeIface unpins all that belongs to an interface; a link that nobody
// holds open is detached by that.
func (p pins) removeIface(ifindex int) error {
	if p.dir == "" {
		return nil
	}
	if err := os.RemoveAll(p.path(ifaceName(ifindex, ""))); err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// removeAll unpins everything and takes away the directory, and the file system
// if it was mounted there for this alone.
func (p pins) removeAll() error {
	if p.dir == "" {
		return nil
	}
	ifaces, err := p.ifaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, ifindex := range ifaces {
		errs = append(errs, p.removeIface(ifindex))
	}
	for _, name := range []string{objectMapLocals, objectMapDenied, objectMapConfig} {
		if err := os.Remove(p.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unpin: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if p.mounted == p.dir {
		err = unix.Unmount(p.mounted, 0)
	}
	if err == nil && p.dir != bpffsRoot {
		err = os.Remove(p.dir)
	}
	// The directory may be the root of a file system, have things of others, or
	// lie in a directory that is not ours.
	if err == nil || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return fmt.Errorf("remove pin path %s: %w", p.dir, err)
}
