package decap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// pinFor makes the directory and names the pin of one interface in it: by
// number, because a name may change, and may hold dots, which the BPF file
// system refuses.
func pinFor(dir string, ifindex int) (string, error) {
	if dir == "" {
		return "", nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("pin path: %w", err)
	}
	on, err := onBPFFS(dir)
	if err != nil {
		return "", fmt.Errorf("pin path %s: %w", dir, err)
	}
	if !on {
		return "", fmt.Errorf("pin path %s is on no BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("pin path: %w", err)
	}
	return filepath.Join(dir, "decap"+strconv.Itoa(ifindex)), nil
}

// onBPFFS reports whether dir, or the nearest ancestor that exists, lies on a
// BPF file system.
func onBPFFS(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if !errors.Is(err, unix.ENOENT) {
			return err == nil && uint32(st.Type) == unix.BPF_FS_MAGIC, err
		}
		dir = filepath.Dir(dir)
	}
}

// unpin removes a pin; one that is gone already is no error.
func unpin(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}

// adopt installs the program in place of the one that an earlier process has
// left pinned, so that no packet meets an interface without either. It reports
// false when there is none, or when that one ran elsewhere than cfg wants; then
// nothing of it is left.
func (d *Decap) adopt(cfg Config, device netlink.Link) (bool, error) {
	if d.pin == "" {
		return false, nil
	}
	old, err := link.LoadPinnedLink(d.pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pin %s: %w", d.pin, err)
	}
	mode, alive, err := running(old, device)
	if err == nil && alive && (cfg.Mode == ModeAuto || cfg.Mode == mode) {
		d.link, d.attached.Mode, d.attached.Adopted = old, mode, true
		err = d.withFrags(cfg, device.Attrs().MTU, old.Update)
		if err == nil && cfg.Mode == ModeAuto && mode == ModeGeneric {
			d.attached.Reason = "an earlier process attached it in generic mode"
		}
		if err != nil {
			err = fmt.Errorf("replace the program of an earlier process: %w", errors.Join(err, old.Close()))
		}
		return true, err
	}
	if err != nil {
		return false, errors.Join(err, old.Close())
	}
	if alive {
		err = old.Detach()
	}
	return false, errors.Join(err, unpin(d.pin), old.Close())
}

// running says how a link runs on an interface. It is not alive when the
// interface that it was made for is gone.
func running(l link.Link, device netlink.Link) (mode Mode, alive bool, err error) {
	info, err := l.Info()
	if err != nil {
		return "", false, fmt.Errorf("pinned link: %w", err)
	}
	on := info.XDP()
	if on == nil || int(on.Ifindex) != device.Attrs().Index {
		return "", false, nil
	}
	x := device.Attrs().Xdp
	if x == nil || !x.Attached || ebpf.ProgramID(x.ProgId) != info.Program {
		return "", false, nil
	}
	if x.AttachMode == nl.XDP_ATTACHED_SKB {
		return ModeGeneric, true, nil
	}
	return ModeNative, true, nil
}
