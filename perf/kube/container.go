package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A container that ends again and again is started again after longer and longer
// pauses: none the first time.
const (
	firstPause = time.Second
	longPause  = 10 * time.Second
)

// container is one container of a pod: a process that is started again when it
// ends, as the pod's restart policy says.
type container struct {
	worker *worker
	spec   *core.Container
	image  Image
	broken error // why it cannot be started

	mu      sync.Mutex
	process *process // the latest
	status  core.ContainerStatus
}

func newContainer(w *worker, spec *core.Container, image Image, broken error) *container {
	started := false
	return &container{worker: w, spec: spec, image: image, broken: broken, status: core.ContainerStatus{
		Name: spec.Name, Image: spec.Image, ImageID: "lab://" + spec.Image, Started: &started,
		State: core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "ContainerCreating"}},
	}}
}

// run starts the process until it is not to be started any more.
func (c *container) run() {
	wait := time.Duration(0)
	for c.worker.terminating.Err() == nil {
		process, err := c.start()
		if err != nil {
			c.set(func(s *core.ContainerStatus) {
				s.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "CreateContainerError", Message: err.Error()}}
			})
			<-c.worker.terminating.Done()
			return
		}
		code := c.attend(process)
		if c.over(code) {
			return
		}
		if wait > 0 {
			c.set(func(s *core.ContainerStatus) {
				s.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			})
		}
		if !pause(c.worker.terminating, wait) {
			return
		}
		wait = min(max(2*wait, firstPause), longPause)
		c.set(func(s *core.ContainerStatus) { s.RestartCount++ })
	}
}

// over reports whether the container is not started again after it has ended.
func (c *container) over(code int32) bool {
	policy := c.worker.object().Spec.RestartPolicy
	return policy == core.RestartPolicyNever || code == 0 && (c.initial() || policy == core.RestartPolicyOnFailure)
}

// initial reports whether it is an init container.
func (c *container) initial() bool {
	c.worker.mu.Lock()
	defer c.worker.mu.Unlock()
	return slices.Contains(c.worker.initial, c)
}

// succeeded reports whether it has ended well.
func (c *container) succeeded() bool {
	over := c.current().State.Terminated
	return over != nil && over.ExitCode == 0
}

// start starts the process once.
func (c *container) start() (*process, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	pod := c.worker.object()
	host, err := c.worker.host()
	if err != nil {
		return nil, err
	}
	environment, err := c.worker.environment(c.worker.ctx, pod, c.spec, c.image)
	if err != nil {
		return nil, err
	}
	command := c.image.command(c.spec, environment.expand)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.worker.terminating.Err(); err != nil {
		return nil, err
	}
	var p *process
	if c.image.Root != nil {
		p, err = c.contain(host, pod, command, environment)
	} else {
		p = &process{}
		p.Process, err = host.Start(c.command(command, environment))
	}
	if err != nil {
		return nil, err
	}
	c.process = p
	return p, nil
}

func hostname(pod *core.Pod, n *Node) string {
	switch {
	case pod.Spec.HostNetwork:
		return n.Name
	case pod.Spec.Hostname != "":
		return pod.Spec.Hostname
	}
	return pod.Name[:min(len(pod.Name), 63)]
}

// attend keeps up the status of a process until it ends, and returns its exit
// code.
func (c *container) attend(p *process) int32 {
	id := fmt.Sprintf("lab://%d", p.Pid())
	began := meta.Now()
	c.set(func(s *core.ContainerStatus) {
		s.ContainerID = id
		s.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: began}}
	})
	probing, cancel := context.WithCancel(c.worker.ctx)
	var probes sync.WaitGroup
	probes.Go(func() { c.probe(probing, p) })
	<-p.Done()
	cancel()
	probes.Wait()
	code, signal := exitCode(p.Wait(context.Background()))
	over := &core.ContainerStateTerminated{ExitCode: code, Signal: signal, StartedAt: began, FinishedAt: meta.Now(), ContainerID: id, Reason: "Completed"}
	if code != 0 {
		over.Reason = "Error"
	}
	c.set(func(s *core.ContainerStatus) {
		no := false
		s.Ready, s.Started = false, &no
		s.State = core.ContainerState{Terminated: over}
		s.LastTerminationState = s.State
	})
	return code
}

// exitCode is a process's as a shell would tell it, and the signal that ended it.
func exitCode(err error) (code, signal int32) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, 0
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int32(status.Signal()), int32(status.Signal())
		}
		return int32(exit.ExitCode()), 0
	}
	return 255, 0
}

// set changes the container's status.
func (c *container) set(change func(*core.ContainerStatus)) {
	c.mu.Lock()
	change(&c.status)
	c.mu.Unlock()
	c.worker.notice()
}

func (c *container) current() core.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *container) running() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return nil
	}
	select {
	case <-c.process.Done():
		return nil
	default:
		return c.process
	}
}

// stop ends the process in good order: its preStop hook, SIGTERM, and SIGKILL when
// grace is over or ctx ends.
func (c *container) stop(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	p := c.running()
	if p == nil {
		return
	}
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil {
		// A hook that fails does not keep the container.
		_ = c.hook(ctx, l.PreStop)
	}
	if p.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.Done():
			return
		case <-ctx.Done():
		}
	}
	_ = p.Kill() // it fails for a process that is gone
}

// crash kills the process.
func (c *container) crash() error {
	if p := c.running(); p != nil {
		return p.Kill()
	}
	return nil
}

// exec runs a command beside the container's process, and in its container.
func (c *container) exec(ctx context.Context, command []string, in io.Reader, out, complaints io.Writer) error {
	host, err := c.worker.host()
	if err != nil {
		return err
	}
	environment, err := c.worker.environment(ctx, c.worker.object(), c.spec, c.image)
	if err != nil {
		return err
	}
	command = c.image.command(&core.Container{Command: command}, func(s string) string { return s })
	cmd := c.command(command, environment)
	if c.image.Root != nil {
		p := c.running()
		if p == nil {
			return fmt.Errorf("container %s does not run", c.spec.Name)
		}
		cmd = c.program(append([]string{"enter", "-spec", c.specPath(), "-pid", strconv.Itoa(p.first.Pid), "--"}, command...), environment)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, complaints
	// What the command leaves behind may keep its outputs open.
	cmd.WaitDelay = time.Second
	p, err := host.Start(cmd)
	if err != nil {
		return err
	}
	err = p.Wait(ctx)
	if ctx.Err() != nil {
		return errors.Join(err, p.Kill())
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // the command has ended, and its input has not
	}
	return err
}

// command is a process of a pod that sees the machine's file system.
func (c *container) command(command []string, environment *environment) *exec.Cmd {
	name := hostname(c.worker.object(), c.worker.kubelet.node)
	return c.program(append([]string{"run", "-hostname", name, "-resolver", c.worker.resolverPath(), "--"}, command...), environment)
}
