package runtime

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// capabilities are all that Linux has, by their numbers (capabilities(7)).
var capabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
	"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
	"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
	"PERFMON", "BPF", "CHECKPOINT_RESTORE",
}

// usual are those that runtimes give to a container that asks for none.
var usual = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID",
	"SETPCAP", "SETUID", "SYS_CHROOT",
}

// all stands for every capability.
const all = "ALL"

// Capabilities are those of a container that drops some of what runtimes give, and
// adds others. "ALL" is all of them.
func Capabilities(drop, add []string) ([]string, error) {
	for _, name := range slices.Concat(drop, add) {
		if name != all && !slices.Contains(capabilities, name) {
			return nil, fmt.Errorf("there is no capability %q", name)
		}
	}
	var have []string
	for _, name := range capabilities {
		given := slices.Contains(usual, name) && !slices.Contains(drop, all) && !slices.Contains(drop, name)
		if given || slices.Contains(add, all) || slices.Contains(add, name) {
			have = append(have, name)
		}
	}
	return have, nil
}

// bound leaves this thread, and what it executes, with no more capabilities than the
// identity has, and no way to gain others.
func (i *Identity) bound() error {
	for number, name := range capabilities {
		if slices.Contains(i.Capabilities, name) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil {
			return fmt.Errorf("take capability %s out of the bounding set: %w", name, err)
		}
	}
	if !i.NoNewPrivileges {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	return nil
}
