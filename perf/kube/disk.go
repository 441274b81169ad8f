package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// bpfPath is where the BPF file system of a node is, as systemd mounts it.
const bpfPath = "/sys/fs/bpf"

// Disk is where a path of the node is on this machine: what a volume of type hostPath
// shows of it. All files of a node are its own, and few are there.
func (n *Node) Disk(path string) string {
	return filepath.Join(n.cluster.path("nodes"), n.Name, filepath.Clean("/"+path))
}

// mountBPF gives the node its BPF file system, which only nodes have whose pods ask
// for files of the node.
func (n *Node) mountBPF() error {
	n.disk.Lock()
	defer n.disk.Unlock()
	if n.bpf {
		return nil
	}
	at := n.Disk(bpfPath)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("bpf", at, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=700"); err != nil {
		return fmt.Errorf("BPF file system of node %s: %w", n.Name, err)
	}
	n.bpf = true
	return nil
}

// unmountBPF takes it away with all that is pinned there.
func (n *Node) unmountBPF() error {
	n.disk.Lock()
	defer n.disk.Unlock()
	if !n.bpf {
		return nil
	}
	n.bpf = false
	if err := unix.Unmount(n.Disk(bpfPath), unix.MNT_DETACH); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("BPF file system of node %s: %w", n.Name, err)
	}
	return nil
}
