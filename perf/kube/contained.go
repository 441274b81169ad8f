package kube

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	core "k8s.io/api/core/v1"

	"fairlead/perf/kube/runtime"
	"fairlead/perf/lab"
)

// process is a container's process.
type process struct {
	*lab.Process
	// first is that of a container with a file system of its own: everything in it
	// ends with that one. nil: the lab's process is the container's.
	first *os.Process
}

// Signal is for the command of the container.
func (p *process) Signal(s syscall.Signal) error {
	if p.first == nil {
		return p.Process.Signal(s)
	}
	if err := p.first.Signal(s); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill ends the container at once, and returns when nothing of it is left.
func (p *process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.Done()
	return nil
}

// contain starts a command in a container of its own, on the pod's network.
func (c *container) contain(host *lab.Host, pod *core.Pod, command []string, environment *environment) (*process, error) {
	spec, err := c.specification(pod)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(spec.Directory, 0o755); err != nil {
		return nil, err
	}
	if err := spec.Write(c.specPath()); err != nil {
		return nil, err
	}
	started, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer started.Close()
	cmd := c.program(append([]string{"contain", "-spec", c.specPath(), "--"}, command...), environment)
	cmd.ExtraFiles = []*os.File{theirs}
	p, err := host.Start(cmd)
	theirs.Close()
	if err != nil {
		return nil, err
	}
	number, err := io.ReadAll(started)
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	pid, err := strconv.Atoi(string(number))
	if err != nil { // nothing: it has ended
		<-p.Done()
		return nil, errors.New(strings.TrimPrefix(string(bytes.TrimSpace(p.Output())), "pod: "))
	}
	first, err := os.FindProcess(pid)
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return &process{Process: p, first: first}, nil
}

// specPath is where the specification of the container is.
func (c *container) specPath() string { return c.worker.path(c.spec.Name + ".json") }

// specification is what the container is to be like.
func (c *container) specification(pod *core.Pod) (*runtime.Spec, error) {
	image := c.image.Root
	s := &runtime.Spec{
		Hostname: hostname(pod, c.worker.kubelet.node), Directory: c.worker.path("root"), Directories: image.Directories,
		Files: []runtime.File{{Path: "/etc/hosts", Text: c.hosts(pod)}, {Path: "/etc/resolv.conf", Text: c.worker.resolver(pod)}},
	}
	for at, text := range image.Files {
		s.Files = append(s.Files, runtime.File{Path: at, Text: text})
	}
	for at, source := range image.Programs {
		s.Mounts = append(s.Mounts, runtime.Mount{Source: source, Path: at, ReadOnly: true})
	}
	for _, m := range c.spec.VolumeMounts {
		v, ok := c.worker.volumes[m.Name]
		switch {
		case !ok:
			return nil, fmt.Errorf("the pod has no volume %s", m.Name)
		case m.SubPath != "" || m.SubPathExpr != "" || m.MountPropagation != nil && *m.MountPropagation != core.MountPropagationNone:
			return nil, fmt.Errorf("volume %s: the lab knows neither subPath nor mountPropagation", m.Name)
		}
		s.Mounts = append(s.Mounts, runtime.Mount{Source: v.path, Path: path.Clean(m.MountPath), ReadOnly: v.readOnly || m.ReadOnly})
	}
	// What is mounted below another mount comes after it.
	slices.SortStableFunc(s.Mounts, func(a, b runtime.Mount) int { return strings.Count(a.Path, "/") - strings.Count(b.Path, "/") })
	return s, c.restrict(s, pod)
}

// restrict says who the container's processes are, and what they may do.
func (c *container) restrict(s *runtime.Spec, pod *core.Pod) (err error) {
	own, ofPod := c.spec.SecurityContext, pod.Spec.SecurityContext
	if own == nil {
		own = &core.SecurityContext{}
	}
	if ofPod == nil {
		ofPod = &core.PodSecurityContext{}
	}
	i := &s.Identity
	*i = runtime.Identity{User: c.image.Root.User, Group: c.image.Root.Group, Directory: "/"}
	if c.spec.WorkingDir != "" {
		i.Directory = c.spec.WorkingDir
	}
	if user := first(own.RunAsUser, ofPod.RunAsUser); user != nil {
		i.User = uint32(*user)
	}
	if group := first(own.RunAsGroup, ofPod.RunAsGroup); group != nil {
		i.Group = uint32(*group)
	}
	for _, g := range ofPod.SupplementalGroups {
		i.Groups = append(i.Groups, uint32(g))
	}
	var drop, add []string
	if own.Capabilities != nil {
		drop, add = names(own.Capabilities.Drop), names(own.Capabilities.Add)
	}
	if i.Capabilities, err = runtime.Capabilities(drop, add); err != nil {
		return err
	}
	i.NoNewPrivileges = own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
	s.ReadOnlyRoot = own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem
	switch {
	case own.Privileged != nil && *own.Privileged:
		return errors.New("the lab has no privileged containers")
	case ofPod.FSGroup != nil:
		return errors.New("the lab knows no fsGroup")
	case pod.Spec.HostPID || pod.Spec.HostIPC || pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace:
		return errors.New("the lab's containers have processes and IPC of their own")
	case first(own.RunAsNonRoot, ofPod.RunAsNonRoot) != nil && *first(own.RunAsNonRoot, ofPod.RunAsNonRoot) && i.User == 0:
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	return nil
}

// first is the container's own setting, else the pod's.
func first[T any](own, ofPod *T) *T {
	if own != nil {
		return own
	}
	return ofPod
}

func names(list []core.Capability) (out []string) {
	for _, c := range list {
		out = append(out, strings.TrimPrefix(string(c), "CAP_"))
	}
	return out
}

// hosts is the file /etc/hosts.
func (c *container) hosts(pod *core.Pod) string {
	text := "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
	for _, ip := range []string{c.worker.box.ipv4.String(), c.worker.box.ipv6.String()} {
		text += ip + "\t" + hostname(pod, c.worker.kubelet.node) + "\n"
	}
	return text
}

// program is the lab's own program, with the environment of a container.
func (c *container) program(args []string, environment *environment) *exec.Cmd {
	cmd := exec.Command(c.worker.kubelet.node.cluster.podBin, args...)
	cmd.Env = environment.list()
	cmd.Dir = "/"
	return cmd
}
