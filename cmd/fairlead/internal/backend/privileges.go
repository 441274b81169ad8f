package backend

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead/xdp/decap"
)

// checkPrivileges fails when the process may not do what mode needs.
func checkPrivileges(mode decap.Mode) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	return missing(mode, uint64(data[0].Effective)|uint64(data[1].Effective)<<32)
}

// missing says which of the needed capabilities are not in a set.
func missing(mode decap.Mode, have uint64) error {
	has := func(c int) bool { return have>>c&1 != 0 }
	var lacks []string
	if !has(unix.CAP_NET_ADMIN) {
		lacks = append(lacks, "CAP_NET_ADMIN")
	}
	// CAP_SYS_ADMIN stands for CAP_BPF.
	if mode != ModeNone && !has(unix.CAP_BPF) && !has(unix.CAP_SYS_ADMIN) {
		lacks = append(lacks, "CAP_BPF")
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("%s missing: run it as root, or give it the capabilities", strings.Join(lacks, " and "))
}

// lockName is an abstract Unix address: its scope is the network namespace,
// and the kernel frees it when the process ends, however that comes about.
const lockName = "@fairlead-backend"

// lock keeps a second process off: when one of two ends, it would take away
// VIPs that the other still serves.
func lock() (net.Listener, error) {
	l, err := net.Listen("unix", lockName)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, errors.New("another fairlead backend runs on this machine; one serves several interfaces and VIPs")
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return l, nil
}
