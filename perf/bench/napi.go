package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"fairlead/perf/lab"
)

// threadedNAPI lets kernel threads of an interface's own take its frames in,
// pinned to a CPU, instead of whoever happens to send them. What the kernel
// forwards then has a CPU to itself, apart from the generator's.
type threadedNAPI struct {
	ifc  *lab.Interface
	pids []int
}

// threadNAPI needs an interface whose program is attached: a veth has no NAPI
// without one.
func threadNAPI(ifc *lab.Interface, cpu int) (*threadedNAPI, error) {
	n := &threadedNAPI{ifc: ifc}
	err := n.set(true)
	if err == nil {
		n.pids, err = napiThreads(ifc)
	}
	for _, pid := range n.pids {
		if err == nil {
			err = setAffinity(pid, cpu)
		}
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// PIDs are the kernel threads.
func (n *threadedNAPI) PIDs() []int { return n.pids }

// Close gives the work back to the softirqs.
func (n *threadedNAPI) Close() error { return n.set(false) }

func (n *threadedNAPI) set(on bool) error {
	return writeSysfs(n.ifc.Host, "class/net/"+n.ifc.Name+"/threaded", strconv.Itoa(int(bit(on))))
}

// The family netdev of generic netlink (Documentation/netlink/specs/netdev.yaml
// of the kernel): its name, version, a command and attributes.
const (
	netdevFamily  = "netdev"
	netdevVersion = 1
	netdevNAPIGet = 11
	napiIfIndex   = 1
	napiPID       = 4
)

// genericHeader is struct genlmsghdr of <linux/genetlink.h>: command, version
// and two reserved bytes. The kernel refuses a request in which those are not
// zero, which nl.Genlmsg does not see to.
type genericHeader [4]byte

// Len is the header's length, for nl.NetlinkRequestData.
func (genericHeader) Len() int { return len(genericHeader{}) }

// Serialize is the header's bytes, for nl.NetlinkRequestData.
func (h genericHeader) Serialize() []byte { return h[:] }

// napiThreads are the kernel threads that take an interface's frames in.
func napiThreads(ifc *lab.Interface) (pids []int, err error) {
	err = ifc.Host.Do(func() error {
		family, err := netlink.GenlFamilyGet(netdevFamily)
		if err != nil {
			return err
		}
		req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_DUMP)
		req.AddData(genericHeader{netdevNAPIGet, netdevVersion})
		req.AddData(nl.NewRtAttr(napiIfIndex, nl.Uint32Attr(uint32(ifc.Index))))
		replies, err := req.Execute(unix.NETLINK_GENERIC, 0)
		if err != nil {
			return err
		}
		for _, reply := range replies {
			attributes, err := nl.ParseRouteAttr(reply[genericHeader{}.Len():])
			if err != nil {
				return err
			}
			for _, a := range attributes {
				if a.Attr.Type == napiPID {
					pids = append(pids, int(binary.NativeEndian.Uint32(a.Value)))
				}
			}
		}
		return nil
	})
	if err == nil && len(pids) == 0 {
		err = errors.New("none")
	}
	if err != nil {
		return nil, fmt.Errorf("host %s: NAPI threads of %s: %w", ifc.Host.Name, ifc.Name, err)
	}
	return pids, nil
}

// writeSysfs writes a file of the sysfs of a host's namespace. It is mounted
// for that in a mount namespace that ends with the thread.
func writeSysfs(h *lab.Host, path, value string) error {
	dir, err := os.MkdirTemp("", "fairlead-bench-sys-")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- h.Do(func() error { return writeMounted(dir, path, value) })
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("host %s: sysfs %s=%s: %w", h.Name, path, value, err)
	}
	return nil
}

func writeMounted(dir, path, value string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("sysfs", dir, "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	err := os.WriteFile(filepath.Join(dir, path), []byte(value), 0)
	return errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
}
