// Package runtime is what a container runtime does for the lab's pods: it gives a
// process a root file system, namespaces and rights of its own.
//
// A container has namespaces for mounts, processes, host name and IPC; its network
// is that of the process that starts it. Its processes have the user, groups and
// capabilities that its specification names, in the bounding set as well, and
// nothing in the ambient one, as container runtimes leave it. /proc and /sys are
// read-only where those make them so. There are no control groups, no seccomp
// filter and no AppArmor profile.
//
// Three programs work together, all of them this one by other arguments: Run stays
// outside, as the parent; Init is the container's first process, which makes the
// container from within and becomes its command; Exec joins a container that runs.
package runtime

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Spec says what a container is like.
type Spec struct {
	Hostname string
	// Directory is an empty one of this machine, on which the root file system is
	// put together. Nothing of it is seen outside of the container.
	Directory    string
	Directories  []string // that the root file system has
	Files        []File
	Mounts       []Mount // in this order
	ReadOnlyRoot bool
	Identity     Identity
}

// File is a small file of the root file system, which anybody may read.
type File struct{ Path, Text string }

// Mount is a file or directory of this machine that is seen in the container.
type Mount struct {
	Source, Path string
	ReadOnly     bool
}

// Identity is who the processes of a container are, and what they may do.
type Identity struct {
	User, Group uint32
	Groups      []uint32 // supplementary
	// Capabilities are the names of those in the bounding set, without "CAP_". Root
	// has them; nobody else has any.
	Capabilities    []string
	NoNewPrivileges bool
	Directory       string // where they start
}

// Write writes the specification for Read.
func (s *Spec) Write(path string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// read is the specification in an open file, which may have been read before.
func read(f *os.File) (*Spec, error) {
	var s Spec
	info, err := f.Stat()
	if err == nil {
		err = json.NewDecoder(io.NewSectionReader(f, 0, info.Size())).Decode(&s)
	}
	if err != nil {
		return nil, fmt.Errorf("specification of the container: %w", err)
	}
	return &s, nil
}
