package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The oldest kernel that the XDP program loads on: it has
// bpf_xdp_get_buff_len.
const (
	kernelMajor = 5
	kernelMinor = 18
)

func (c *checker) kernel() {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		c.add(Warning, "kernel", "ask for its version: %v", err)
		return
	}
	release := unix.ByteSliceToString(name.Release[:])
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		c.add(Warning, "kernel", "version %q cannot be read", release)
		return
	}
	if major < kernelMajor || major == kernelMajor && minor < kernelMinor {
		c.add(Error, "kernel", "version %s; the XDP program needs %d.%d or later", release, kernelMajor, kernelMinor)
		return
	}
	c.add(Note, "kernel", "version %s", release)
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); errors.Is(err, fs.ErrNotExist) {
		c.add(Warning, "kernel", "it has no type information (BTF); bpftool shows less of the XDP program")
	}
}

// pinPath checks that what is pinned can be pinned: on a BPF file system, or
// where run will mount one.
func (c *checker) pinPath() {
	dir := c.cfg.XDP.PinPath
	if dir == "" {
		c.add(Note, "pin_path", "nothing is pinned: when the control process ends, the host gets the traffic")
		return
	}
	for at := dir; ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		if errors.Is(err, fs.ErrNotExist) && at != "/" {
			continue
		}
		switch {
		case err != nil:
			c.add(Warning, "pin_path "+dir, "%s: %v", at, err)
		case uint32(st.Type) == unix.BPF_FS_MAGIC:
		case hasCapability(unix.CAP_SYS_ADMIN):
			c.add(Note, "pin_path "+dir, "it is on no BPF file system yet; run mounts one")
		default:
			c.add(Warning, "pin_path "+dir, "it is on no BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf")
			c.do("mount one", "mount -t bpf bpf /sys/fs/bpf")
		}
		return
	}
}
